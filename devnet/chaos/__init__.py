"""Real validators under load, killed, paused, cut off and restarted by a seeded schedule.

report = run_chaos(cluster, Plan(validators=5), ChaosPlan(minutes=3, seed=1), print, trio.run)
report.whole
"""

from devnet.chaos.report import ChaosReport as ChaosReport
from devnet.chaos.run import ChaosPlan as ChaosPlan
from devnet.chaos.run import run_chaos as run_chaos
from devnet.chaos.schedule import Schedule as Schedule
from devnet.chaos.schedule import make_schedule as make_schedule

"""The replicated exchange: accounts, markets, matching, as one pure state machine.

    exchange = Exchange(genesis, network)
    admitted = admit(wire, domain)
    result = exchange.apply(BlockInput(height, time_ms, (admitted,)))
    result.events, result.root

No clock, no randomness, no I/O: the same blocks give the same events and roots everywhere.
"""

from exchange.block import BlockInput as BlockInput
from exchange.block import BlockResult as BlockResult
from exchange.block import Deposit as Deposit
from exchange.block import Observation as Observation
from exchange.block import Rollup as Rollup
from exchange.block import Withdrawal as Withdrawal
from exchange.envelope import Admitted as Admitted
from exchange.envelope import Refused as Refused
from exchange.envelope import admit as admit
from exchange.envelope import envelope_id as envelope_id
from exchange.envelope import judge as judge
from exchange.events import Event as Event
from exchange.exchange import Exchange as Exchange
from exchange.views import AccountView as AccountView
from exchange.views import BookView as BookView
from exchange.views import ExchangeStatistics as ExchangeStatistics
from exchange.views import KeyView as KeyView
from exchange.views import OrderView as OrderView

"""Chaos: its schedule, its links, and a short run against real validators."""

import contextlib
import os
import subprocess
import sys
import time

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import devnet.namespaces
from cli.chaos import judge
from devnet.chaos import ChaosPlan, make_schedule, run_chaos
from devnet.chaos.audit import BlockSeen
from devnet.chaos.injection import Done
from devnet.chaos.report import one_dead_ratio, windows
from devnet.chaos.schedule import RETURN_S, SECONDS_MIN, Kind, faults_max, suffering
from devnet.check import Finding
from devnet.cluster import Cluster
from devnet.creation import Plan
from devnet.faults import (
    ChaosFailed,
    NamespacesForbidden,
    PacketDeviceMissing,
    TooFewValidators,
    WiresEnded,
)
from devnet.layout import ClusterState, NodeState
from devnet.namespaces import Weather, check_permitted, lay_network, remove_leftovers
from devnet.relays import Cuts, Ports, RelayPlan, Relays, Setup
from devnet.router import Device, Router, RouterSetup
from devnet.wires import Carrier, around, lay_relays

LOOPBACK = "127.0.0.1"
SECOND_S_MAX = 30


def names(count):
    return [f"v{number}" for number in range(count)]


SCHEDULES = st.builds(
    make_schedule,
    seed=st.integers(0, 2**32),
    seconds=st.floats(SECONDS_MIN, 900),
    validators=st.integers(4, 16).map(names),
    blackout=st.booleans(),
)


# ---- the schedule


@given(st.integers(0, 2**63), st.floats(SECONDS_MIN, 600), st.integers(4, 16), st.booleans())
def test_the_same_seed_gives_the_same_schedule(seed, seconds, count, blackout):
    first = make_schedule(seed, seconds, names(count), blackout=blackout)
    assert first == make_schedule(seed, seconds, names(count), blackout=blackout)


def test_another_seed_gives_another_schedule():
    assert make_schedule(1, 180, names(5)).steps != make_schedule(2, 180, names(5)).steps


@given(SCHEDULES)
@settings(max_examples=200)
def test_never_more_than_f_suffer_and_all_is_healed_at_the_end(schedule):
    moments = {step.at_s for step in schedule.steps}
    moments |= {step.until_s + part * RETURN_S for step in schedule.steps for part in (0, 0.99)}
    assert all(len(suffering(schedule, at_s)) <= schedule.faults_max for at_s in moments)
    for step in schedule.steps:
        assert schedule.quiet_s <= step.at_s < step.until_s
        assert step.kind is Kind.BLACKOUT or step.until_s <= schedule.seconds
    assert schedule.steps, "something happens, however short the run"
    assert not suffering(schedule, schedule.seconds + RETURN_S)


@given(SCHEDULES)
def test_nobody_suffers_when_a_blackout_takes_everybody(schedule):
    for blackout in (step for step in schedule.steps if step.kind is Kind.BLACKOUT):
        assert not suffering(schedule, blackout.at_s)
        assert not suffering(schedule, blackout.until_s)


def test_a_long_run_does_everything_that_can_be_done():
    kinds = {step.kind for step in make_schedule(1, 1_800, names(5), blackout=True).steps}
    assert kinds == set(Kind)


@pytest.mark.parametrize(("count", "bound"), [(4, 1), (5, 1), (6, 1), (7, 2), (16, 5)])
def test_fewer_than_a_third_may_fail(count, bound):
    assert faults_max(count) == bound


def test_three_validators_are_too_few_for_chaos():
    with pytest.raises(TooFewValidators, match="start 4 or more"):
        make_schedule(1, 60, names(3))


# ---- what a run says of itself


def test_throughput_is_counted_in_the_windows_of_the_schedule():
    schedule = make_schedule(1, 60, names(5))
    dead = schedule.steps[0]
    done = Done(dead.kind, dead.who, dead.at_s, dead.at_s, dead.until_s, {}, {}, {})
    blocks = [BlockSeen(1, "", "", 1_000, ""), BlockSeen(2, "", "", 12_500, "")]
    blocks += [BlockSeen(3, "", "", round((dead.until_s - 1) * 1_000), "")]
    found = windows(schedule, [done], blocks, {1: 24, 3: 6, 2: 1_000}, 0, 10.0)
    quiet, one_dead, _ = found
    assert (quiet.name, quiet.orders_per_second) == ("fault-free", 24 / schedule.quiet_s)
    assert one_dead.orders_per_second == round(6 / (dead.until_s - dead.at_s - 10), 1)
    assert one_dead_ratio(found) == round(one_dead.orders_per_second / 2, 3)


# ---- relays


async def echo(stream):
    async for data in stream:
        await stream.send_all(data)


async def relayed(nursery):
    """Relays with one to an echo, and a connection through it."""
    served = await nursery.start(trio.serve_tcp, echo, 0)
    target = served[0].socket.getsockname()[1]
    relays = Relays()
    plan = RelayPlan("v0", "v1", (LOOPBACK, 0), (LOOPBACK, target))
    port = await relays.listen(nursery, plan)
    return relays, await trio.open_tcp_stream(LOOPBACK, port)


async def answers(stream, data, seconds=0.3):
    """Whether an echo comes back soon."""
    with trio.move_on_after(seconds):
        await stream.send_all(data)
        return await stream.receive_some() == data
    return False


@pytest.mark.parametrize("cut", [("v0", "v1"), ("v1", "v0")])
async def test_a_cut_direction_is_silent_until_it_is_whole(nursery, cut):
    relays, stream = await relayed(nursery)
    assert await answers(stream, b"one", SECOND_S_MAX)
    relays.set_cuts([cut])
    assert not await answers(stream, b"two")
    relays.set_cuts([])
    with trio.fail_after(SECOND_S_MAX):
        assert await stream.receive_some() == b"two"
    assert relays.statistics().open == 1


async def test_a_new_connection_hangs_while_the_link_is_cut(nursery):
    relays, first = await relayed(nursery)
    assert await answers(first, b"one", SECOND_S_MAX)
    relays.set_cuts([("v0", "v1"), ("v1", "v0")])
    port = first.socket.getpeername()[1]
    second = await trio.open_tcp_stream(LOOPBACK, port)
    assert not await answers(second, b"two")
    relays.set_cuts([("v4", "v3")])
    with trio.fail_after(SECOND_S_MAX):
        assert await second.receive_some() == b"two"


async def test_a_relay_to_nobody_closes(nursery):
    with trio.socket.socket() as unused:
        await unused.bind((LOOPBACK, 0))
        plan = RelayPlan("v0", "v1", (LOOPBACK, 0), unused.getsockname())
    port = await Relays().listen(nursery, plan)
    stream = await trio.open_tcp_stream(LOOPBACK, port)
    with trio.fail_after(SECOND_S_MAX):
        with contextlib.suppress(trio.BrokenResourceError):  # reset, which is closed too
            assert await stream.receive_some() == b""


def test_a_carrier_ends_with_its_pipe_and_says_when_it_ended_before():
    carrier = Carrier("devnet.relays")
    plan = RelayPlan("v0", "v1", (LOOPBACK, 0), (LOOPBACK, 9))
    assert len(carrier.ask(Setup([plan]), Ports).ports) == 1
    assert carrier.ask(Cuts([("v0", "v1")]), Cuts).cut == [("v0", "v1")]
    carrier.close()
    with pytest.raises(WiresEnded, match="start the run again"):
        Carrier("devnet.absent").ask(Setup([]), Ports)


def test_relays_do_not_outlive_who_started_them():
    program = (
        "import os\n"
        "from devnet.relays import Ports, Setup\n"
        "from devnet.wires import Carrier\n"
        "carrier = Carrier('devnet.relays')\n"
        "carrier.ask(Setup([]), Ports)\n"
        "print(carrier.pid, flush=True)\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + SECOND_S_MAX
    while os.path.exists(f"/proc/{pid}/cmdline") and time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().split()[2] == "Z":
                break
        time.sleep(0.05)
    else:
        assert not os.path.exists(f"/proc/{pid}/cmdline")


def test_directions_around_a_node_are_those_to_and_from_it():
    assert around("v1", ["v0", "v1", "v2"], out=True, into=False) == {("v1", "v0"), ("v1", "v2")}
    assert around("v1", ["v0", "v1"], out=True, into=True) == {("v1", "v0"), ("v0", "v1")}


# ---- the router


def packet(target, body=b""):
    return b"\x45" + bytes(15) + bytes(int(part) for part in target.split(".")) + body


class Link:
    """A router between `host`, `v0` and `v1` whose devices are pipes."""

    def __init__(self, delay_ms=0, jitter_ms=0, loss_ppm=0):
        devices = [Device("host", "", "10.0.0.1")]
        devices += [Device("v0", "", "10.0.0.2"), Device("v1", "", "10.0.0.3")]
        self.ends = {item.node: os.pipe2(os.O_NONBLOCK) for item in devices}
        writers = {node: end[1] for node, end in self.ends.items()}
        setup = RouterSetup(devices, "host", delay_ms, jitter_ms, loss_ppm, seed=1)
        self.router = Router(setup, writers)

    def arrived(self, node):
        try:
            return os.read(self.ends[node][0], 65_536)
        except BlockingIOError:
            return b""

    def close(self):
        for end in self.ends.values():
            for file in end:
                os.close(file)


@pytest.fixture
def link():
    made = []

    def make(**weather):
        made.append(Link(**weather))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_a_packet_arrives_after_the_delay_of_its_link(link):
    wire = link(delay_ms=50)
    wire.router.take("v0", packet("10.0.0.3", b"x"), 1.0)
    assert wire.router.deliver(1.04) == pytest.approx(0.01)
    assert wire.arrived("v1") == b""
    assert wire.router.deliver(1.0501) is None
    assert wire.arrived("v1") == packet("10.0.0.3", b"x")


def test_jitter_keeps_the_order_of_packets(link):
    wire = link(delay_ms=10, jitter_ms=10)
    for number in range(50):
        wire.router.take("v0", packet("10.0.0.3", bytes([number])), number / 1_000)
    wire.router.deliver(10.0)
    assert wire.arrived("v1") == b"".join(packet("10.0.0.3", bytes([n])) for n in range(50))


def test_a_cut_direction_loses_packets_and_the_other_does_not(link):
    wire = link()
    wire.router.cut = frozenset({("v0", "v1")})
    wire.router.take("v0", packet("10.0.0.3"), 0.0)
    wire.router.take("v1", packet("10.0.0.2"), 0.0)
    wire.router.take("host", packet("10.0.0.3", b"api"), 0.0)
    wire.router.deliver(0.0)
    assert wire.arrived("v1") == packet("10.0.0.3", b"api")
    assert wire.arrived("v0") == packet("10.0.0.2")
    assert wire.router.lost == 1


def test_about_the_wanted_share_of_packets_is_lost(link):
    wire = link(loss_ppm=100_000)
    for _ in range(2_000):
        wire.router.take("v0", packet("10.0.0.3"), 0.0)
    assert 100 < wire.router.lost < 300


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x60" + bytes(60), packet("10.9.9.9")])
def test_what_is_not_for_a_node_goes_nowhere(link, data):
    wire = link()
    wire.router.take("v0", data, 0.0)
    assert wire.router.deliver(1.0) is None
    assert wire.router.carried == 0


# ---- namespaces


def permitted():
    try:
        check_permitted()
    except (NamespacesForbidden, PacketDeviceMissing):
        return False
    return True


needs_namespaces = pytest.mark.skipif(
    not permitted(), reason="needs root, network namespaces and TUN"
)


def test_without_privileges_the_network_mode_says_what_to_do(monkeypatch):
    monkeypatch.setattr(devnet.namespaces.os, "geteuid", lambda: 1000)
    with pytest.raises(NamespacesForbidden, match="run without --network"):
        check_permitted()


@needs_namespaces
def test_in_namespaces_a_machine_without_tun_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(devnet.namespaces, "TUN_PATH", str(tmp_path / "tun"))
    with pytest.raises(PacketDeviceMissing, match="modprobe tun"):
        check_permitted()


def cluster_of(root, count):
    """A cluster that was made and does not run; its nodes have no keys."""
    cluster = Cluster(root)
    nodes = []
    for number in range(count):
        name = f"v{number}"
        cluster.layout.node(name).mkdir(parents=True)
        nodes.append(
            NodeState(
                name=name,
                role="validator",
                index=number,
                api=f"http://{LOOPBACK}:{20_000 + number}",
                p2p=f"/ip4/{LOOPBACK}/tcp/{21_000 + number}/p2p/peer{number}",
                peer_id=f"peer{number}",
                evm_address="0x" + "00" * 20,
            )
        )
    state = ClusterState(
        network="00" * 32,
        chain_id=1,
        vault="0x",
        tokens={},
        evm=f"http://{LOOPBACK}:9",
        evm_kind="embedded",
        nodes=nodes,
        traders=[],
    )
    cluster.layout.save(state)
    return cluster


def test_nodes_dial_relays_while_they_are_laid_and_each_other_afterwards(tmp_path):
    cluster = cluster_of(tmp_path, 3)
    config = cluster.layout.node("v0") / "config.toml"
    with lay_relays(cluster) as wires:
        assert "tcp/21001" not in config.read_text()
        assert "/p2p/peer1" in config.read_text()
        wires.cut(around("v0", names(3), out=True, into=True))
    port = cluster.node("v1").p2p.split("/")[4]
    assert f"/ip4/{LOOPBACK}/tcp/{port}/p2p/peer1" in config.read_text()


def reached(namespace, address):
    """Whether a TCP connection out of a namespace is answered, if only by a refusal."""
    program = (
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(2)\n"
        "try: s.connect((sys.argv[1], 9))\n"
        "except ConnectionRefusedError: sys.exit(0)\n"
        "except OSError: sys.exit(1)\n"
    )
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", program, address]
    return subprocess.run(command, timeout=SECOND_S_MAX).returncode == 0


@needs_namespaces
def test_nodes_in_namespaces_reach_each_other_unless_cut_and_leave_nothing(tmp_path):
    cluster = cluster_of(tmp_path, 2)
    with lay_network(cluster, Weather(5, 0, 0), seed=1) as wires:
        node = cluster.node("v1")
        address = node.api.split("/")[2].split(":")[0]
        (namespace,) = [
            item.split()[0]
            for item in subprocess.check_output(["ip", "netns", "list"], text=True).splitlines()
            if item.split()[0].endswith("v0")
            and f"{address}/24" in devices_of(item.split()[0][:-2])
        ]
        assert reached(namespace, address)
        wires.cut({("v0", "v1")})
        assert not reached(namespace, address)
        wires.cut(())
        assert reached(namespace, address)
    assert namespace not in subprocess.check_output(["ip", "netns", "list"], text=True)
    assert cluster.node("v1").api.startswith(f"http://{LOOPBACK}:")


def devices_of(prefix):
    """The addresses in the second namespace of a prefix."""
    command = ["ip", "-n", f"{prefix}v1", "-brief", "address"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@needs_namespaces
def test_leftover_namespaces_of_one_prefix_are_removed():
    mine, other = "octest1-a", "octest2-a"
    for name in (mine, other):
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        assert remove_leftovers("octest1") == [mine]
        assert other in subprocess.check_output(["ip", "netns", "list"], text=True)
    finally:
        assert remove_leftovers("octest2") == [other]


# ---- real validators


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """Some seconds of chaos among four validators."""
    told = []
    cluster = Cluster(tmp_path_factory.mktemp("chaos") / "the state")
    with cluster:
        plan = ChaosPlan(minutes=0.21, seed=8, rate=15, accounts=4)
        report = run_chaos(cluster, Plan(4, 0, 2), plan, told.append, trio.run)
    return report, told


@pytest.mark.cluster
def test_nothing_is_lost_when_validators_die_hang_and_lose_touch(short_run):
    report, _ = short_run
    assert [item for item in report.findings if not item.holds] == []
    assert report.whole
    assert report.lost == 0
    assert report.executed >= report.orders.receipts > 50
    assert len(report.done) == len(report.schedule.steps) > 0
    assert report.most_suffering == 1


@pytest.mark.cluster
def test_a_report_of_chaos_is_json_and_says_when_validators_voted_again(short_run):
    report, told = short_run
    again = msgspec.json.decode(msgspec.json.encode(report))
    assert again["seed"] == 8
    assert all(value is not None for item in report.done for value in item.voting_ms.values())
    assert any("voting again after" in line for line in told)


@pytest.mark.cluster
def test_a_wrong_finding_is_told_with_the_place_of_the_logs(short_run):
    report, _ = short_run
    wrong = msgspec.structs.replace(report, findings=[Finding("v2 has all orders", False, "none")])
    with pytest.raises(ChaosFailed, match=r"v2 has all orders .*node\.log.*--seed 8"):
        judge(wrong)

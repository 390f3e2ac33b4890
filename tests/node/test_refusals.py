"""The driver refuses what breaks a rule, without letting others flood its log."""

import structlog
import trio

from consensus import Committee, Genesis, Identity, Received, Replica, Timing, Validator
from node.driver import Driver
from primitives import ed25519
from primitives.cid import cid_of

FLOOD = 300
PATIENCE_S = 20


class Nowhere:
    """A network without anybody on it."""

    def broadcast(self, kind, payload):
        pass

    def send(self, to, kind, payload):
        pass


def ignore(_effect):
    pass


def driver():
    keys = [ed25519.SigningKey(bytes([number]) * 32) for number in range(1, 5)]
    committee = Committee(b"\7" * 32, 1, [Validator(key.public, 1) for key in keys])
    genesis = Genesis(cid_of(b"nothing"), 1_000_000, committee, 0)
    replica = Replica(genesis, Identity(keys[0], 0), set().__contains__, Timing())
    words = {"fetch_envelopes": ignore, "fetch_chain": ignore, "checkpoint": ignore}
    made = Driver(replica, None, Nowhere(), **words)
    return made, replica.resume({}, made.now_ms())


async def test_a_flood_of_refused_messages_is_a_line_for_each_sender_and_a_count():
    made, effects = driver()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run, effects)
            for number in range(FLOOD):
                await made.post_received(Received(1, b"garbage", 1 + number % 2))
            with trio.fail_after(PATIENCE_S):
                while made.statistics().refused < FLOOD:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    refused = [line for line in logs if line["event"] == "refused"]
    first, rest = refused[:2], refused[2:]
    assert {line["validator"] for line in first} == {1, 2}
    assert all(line["code"] and line["reason"] for line in first)
    assert sum(line["more"] for line in rest) == FLOOD - len(first)
    assert len(refused) == 4

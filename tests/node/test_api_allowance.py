"""What a client may ask per second, and that counting it stays small."""

import pytest

from node.api.allowance import Allowance, client_key
from node.faults import TooManyRequests


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def allowance(requests=2, envelopes=10, **more):
    clock = Clock()
    return Allowance(requests, envelopes, clock=clock, **more), clock


def spend(made, client):
    return made.spend_request(client)[0]


def test_a_second_holds_so_many_requests_and_no_more():
    made, clock = allowance()
    assert [spend(made, "a") for _ in range(3)] == [True, True, False]
    assert spend(made, "b")
    clock.now += 1.0
    assert spend(made, "a")


def test_the_standing_counts_down_and_says_when_it_begins_anew():
    made, clock = allowance()
    _, first = made.spend_request("a")
    assert (first.limit, first.remaining, first.reset_s) == (2, 1, 1)
    made.spend_request("a")
    clock.now += 0.5
    allowed, standing = made.spend_request("a")
    assert (allowed, standing.remaining, standing.reset_s) == (False, 0, 1)


def test_envelopes_are_taken_whole_or_not_at_all():
    made, clock = allowance()
    made.spend_envelopes("a", 8)
    with pytest.raises(TooManyRequests, match="10 envelopes per second; wait 1 s"):
        made.spend_envelopes("a", 3)
    made.spend_envelopes("a", 2)
    clock.now += 1.0
    made.spend_envelopes("a", 10)
    assert made.statistics().refused_envelopes == 3


def test_the_table_is_bounded_and_newcomers_share():
    made, clock = allowance(clients_max=3)
    for client in "abc":
        assert spend(made, client)
    assert [spend(made, client) for client in "defg"] == [True, True, False, False]
    assert spend(made, "a")
    assert made.statistics().clients == 4
    clock.now += 1.5
    assert [spend(made, client) for client in "efg"] == [True, True, True]
    assert made.statistics().clients <= 4


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_a_client_is_an_address_or_an_ipv6_network(host, key):
    assert client_key(host) == key

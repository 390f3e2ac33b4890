import inspect
import logging

import pytest

import p2p
from p2p import faults
from p2p.configuration import NetworkConfig
from primitives.faults import Fault


def every_fault() -> list[type[Fault]]:
    defined = vars(faults).values()
    return [
        each
        for each in defined
        if inspect.isclass(each) and issubclass(each, Fault) and each.__module__ == faults.__name__
    ]


def test_the_front_door_shows_what_others_may_use():
    public = {
        name
        for name, value in vars(p2p).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == {
        "FRAME_BYTES_MAX",
        "GOSSIP_BYTES_MAX",
        "GossipMessage",
        "Limits",
        "LinkUp",
        "MESSAGE_BYTES_MAX",
        "Network",
        "NetworkConfig",
        "NetworkStatistics",
        "PeerAddress",
        "PeerFrame",
        "PeerStatus",
        "PeerUnreachable",
        "RequestRefused",
        "RequestTimeout",
        "open_network",
        "parse_address",
        "peer_id_of_public_key",
        "peer_id_of_seed",
        "quiet_libp2p",
    }


def test_every_fault_has_a_code_of_its_own_and_a_line_in_the_tree():
    codes = {each.code: each.__name__ for each in every_fault() if each.code != Fault.code}
    assert len(codes) == 29
    for code, name in codes.items():
        assert code.startswith("E5")
        assert any(
            line.split()[:2] == [name, code] for line in (faults.__doc__ or "").splitlines()
        ), name


@pytest.mark.parametrize(
    "wrong",
    [{"network": b"short"}, {"seed": b"short"}, {"validators": {"a": 1, "b": 1}}],
)
def test_a_configuration_that_cannot_work_is_refused(wrong):
    right = {"network": bytes(32), "seed": bytes(32)}
    with pytest.raises(ValueError):
        NetworkConfig(**{**right, **wrong})


def test_a_configuration_never_shows_its_seed():
    assert "seed" not in repr(NetworkConfig(bytes(32), b"\x07" * 32))


def test_quiet_libp2p_leaves_errors_to_the_root_logger(caplog):
    p2p.quiet_libp2p()
    logging.getLogger("libp2p.network.swarm").error("a peer's fault")
    logging.getLogger("libp2p.bitswap").error("a real one")
    assert [record.message for record in caplog.records] == ["a real one"]

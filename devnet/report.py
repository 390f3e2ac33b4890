"""What the demo found out, as data: the JSON of `outcry devnet demo --json FILE`."""

from pathlib import Path

import msgspec

from devnet.faults import ReportUnreadable

REPORT_BYTES_MAX = 64 << 20  # larger files are refused with E908


class ValidatorReport(msgspec.Struct, frozen=True):
    """A validator at the end; `checkpoint_root` is the state root two thirds signed."""

    id: str
    api: str
    pid: int
    height: int
    checkpoint_height: int
    checkpoint_root: str
    peers: int
    rss_mb: float


class FillReport(msgspec.Struct, frozen=True):
    """A trade as the exchange recorded it: ticks and lots."""

    market: str
    trade: int
    height: int
    price: int
    size: int
    maker: str
    taker: str


class LatencyReport(msgspec.Struct, frozen=True):
    """From submitting an order to seeing it executed on a node that did not take it."""

    p50: float
    p99: float
    count: int


class TransactionReport(msgspec.Struct, frozen=True):
    """An EVM transaction of the demo; `what` is deposit, rollup or claim."""

    what: str
    tx: str
    gas: int
    block: int


class BalanceReport(msgspec.Struct, frozen=True):
    """What a trader holds of a token on chain, in exchange units, before and after."""

    trader: str
    address: str
    token: str
    before: int
    after: int


class ChatReport(msgspec.Struct, frozen=True):
    """The room's messages as the first node has them; whether all nodes have the same."""

    room: str
    messages: list[str]
    cids: list[str]
    equal_on_all_nodes: bool


class DemoReport(msgspec.Struct, frozen=True):
    """The whole report. `archive` is a CAR file with all blocks and batches, beside the state."""

    network: str
    directory: str
    evm: str
    seconds: float
    validators: list[ValidatorReport]
    fills: list[FillReport]
    latency_ms: LatencyReport
    blocks: list[str]
    settlement: list[TransactionReport]
    balances: list[BalanceReport]
    chat: ChatReport
    archive: str


def load_report(path: Path) -> DemoReport:
    """Errors: `ReportUnreadable`."""
    try:
        if path.stat().st_size > REPORT_BYTES_MAX:
            raise ReportUnreadable(f"{path} is too large to be a report")
        return msgspec.json.decode(path.read_bytes(), type=DemoReport)
    except OSError as error:
        raise ReportUnreadable(
            f"cannot read {path}: {error.strerror}; make one with: outcry devnet demo --json {path}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReportUnreadable(
            f"{path} is not a report ({error}); "
            "make one with: outcry devnet demo --json report.json"
        ) from None


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie (nearest rank); 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

"""What can go wrong with what this process keeps, and with what others ask of it.

LocalFault
  StorageFault
    BlockDamaged        E601  stored bytes no longer hash to their CID
    BlockMissing        E602  a block that this node has recorded is not in the store
    JournalMismatch     E610  the journal belongs to another key or network
    JournalDamaged      E611  the journal fails its integrity check
    SlotTaken           E612  a slot that is signed once holds something else, or was pruned
    JournalInUse        E613  another process holds the journal
    JournalMissing      E614  no journal where one must be
    EntryRefused        E615  a kind, key or value longer than the journal takes
    JournalExported     E616  the journal was exported and is sealed
    ExportDamaged       E617  not an intact export of a journal
    ExportMismatch      E618  the export is of another key or network
    JournalNewer        E619  the journal has signed what the export does not hold
    SchemaMismatch      E620  the file was written by an older or newer version
    IndexDamaged        E621  the index is no intact database of Outcry
    DiskFull            E622  no space left, or the file has reached its bound
    StorageUnusable     E623  the operating system refused to read, write or flush
    IndexContradiction  E624  what is recorded does not fit what is there
    IndexMismatch       E625  the index belongs to another network
    IndexInUse          E626  another process holds the index
    ExportExists        E627  an export would overwrite another file
    ExportOversized     E628  the journal holds more than an export may
RemoteFault
  BlockMismatch         E640  bytes from outside that their CID does not name
  BlockOversized        E641  more bytes than a block may have
  QueryInvalid          E642  a limit or cursor out of its range
  QueryTooSlow          E643  the query passed its deadline
  QueriesBusy           E644  all readers are taken
  ArchiveInvalid        E650  not a strict CARv1 file
"""

from pathlib import Path

from primitives.cid import is_cid, to_text
from primitives.faults import LocalFault, RemoteFault


def _name(cid: bytes) -> str:
    return to_text(cid) if is_cid(cid) else cid[:40].hex()


class StorageFault(LocalFault):
    """What this process keeps, or must keep, is lost or at risk."""

    code = "E600"


class BlockDamaged(StorageFault):
    """Stored bytes no longer hash to their CID."""

    code = "E601"

    def __init__(self, cid: bytes) -> None:
        self.cid = cid
        super().__init__(
            f"block {_name(cid)} is damaged on disk; "
            "check the disk, delete the index and let the node fetch it again"
        )


class BlockMissing(StorageFault):
    """A block that this node has recorded is not in the store."""

    code = "E602"

    def __init__(self, cid: bytes) -> None:
        self.cid = cid
        super().__init__(f"block {_name(cid)} is not in the store; fetch it from a peer, repeat")


class JournalMismatch(StorageFault):
    """The journal belongs to another key or network."""

    code = "E610"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} belongs to another {what}; start with the journal of this key")


class JournalDamaged(StorageFault):
    """The journal fails its integrity check."""

    code = "E611"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} is damaged ({what}); do not sign with this key: "
            "restore the journal, or replace the consensus key"
        )


class SlotTaken(StorageFault):
    """A slot that is signed once holds something else, or was pruned."""

    code = "E612"

    def __init__(self, kind: str, key: bytes, what: str) -> None:
        self.kind = kind
        self.key = key
        super().__init__(
            f"{kind} {key.hex()} {what}; nothing was written: "
            "stop, and look for a second process with the same key"
        )


class JournalInUse(StorageFault):
    """Another process holds the journal."""

    code = "E613"

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is used by process {holder}; stop that process first")


class JournalMissing(StorageFault):
    """No journal where one must be."""

    code = "E614"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds no journal; import it with outcry journal import, "
            "or start the node, which begins one and waits for the next epoch"
        )


class EntryRefused(StorageFault):
    """A kind, key or value longer than the journal takes, or too many at once."""

    code = "E615"

    def __init__(self, what: str, size: int, size_max: int) -> None:
        super().__init__(f"{what} of {size}, at most {size_max}; nothing was written, split it")


class JournalExported(StorageFault):
    """The journal was exported and is sealed: two copies of it would sign twice."""

    code = "E616"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was exported and signs no more, two copies would sign twice; "
            "start the validator where the export was imported, or import it here again, or, "
            "if no copy was ever started: outcry journal resume --copy-never-started"
        )


class ExportDamaged(StorageFault):
    """Not an intact export of a journal; nothing was imported."""

    code = "E617"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} is no intact export ({what}), nothing was imported; "
            "copy it again, or repeat outcry journal export at the source, which stays sealed"
        )


class ExportMismatch(StorageFault):
    """The export is of another key or network; nothing was imported."""

    code = "E618"

    def __init__(self, path: Path, what: str, found: bytes) -> None:
        super().__init__(
            f"{path} was exported for the {what} 0x{found.hex()}, not for this node's; "
            "bring the keystore and the genesis of that validator here first"
        )


class JournalNewer(StorageFault):
    """The journal has signed what the export does not hold; nothing was imported."""

    code = "E619"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} {what}, nothing was imported; "
            "keep the journal that is there, or export again where this key signed last"
        )


class SchemaMismatch(StorageFault):
    """The file was written by an older or newer version."""

    code = "E620"

    def __init__(self, path: Path, found: int, expected: int) -> None:
        step = (
            "run the newer version of outcry that wrote it"
            if found > expected
            else "move it away and let the node build it again from its peers"
        )
        super().__init__(f"{path} has layout {found}, this version reads {expected}; {step}")


class IndexDamaged(StorageFault):
    """The index is no intact database of Outcry."""

    code = "E621"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} is damaged ({what}); move it away and let the node build it again from peers"
        )


class DiskFull(StorageFault):
    """No space left, or the file has reached its bound; nothing of the transaction remains."""

    code = "E622"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no space to write {path}; free space on its disk or raise its bound, then restart"
        )


class StorageUnusable(StorageFault):
    """The operating system refused to read, write or flush; what is on disk is in doubt."""

    code = "E623"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} cannot be used ({what}); check disk and permissions, restart")


class IndexContradiction(StorageFault):
    """What is recorded does not fit what is there; nothing was written."""

    code = "E624"

    def __init__(self, what: str) -> None:
        super().__init__(f"the index refuses {what}; stop, and compare the state root with peers")


class IndexMismatch(StorageFault):
    """The index belongs to another network."""

    code = "E625"

    def __init__(self, path: Path, found: bytes) -> None:
        super().__init__(
            f"{path} belongs to network {found.hex()[:16]}; start with this network's directory"
        )


class IndexInUse(StorageFault):
    """Another process holds the index."""

    code = "E626"

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is used by process {holder}; stop that process first")


class ExportExists(StorageFault):
    """An export would overwrite another file; the journal was not sealed."""

    code = "E627"

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists, nothing was exported; give another name with --to")


class ExportOversized(StorageFault):
    """The journal holds more than an export may; it was not sealed."""

    code = "E628"

    def __init__(self, path: Path, size: int, size_max: int) -> None:
        super().__init__(
            f"{path} holds {size} bytes, an export at most {size_max}, nothing was exported; "
            "let the node run until it has caught up and forgets old entries, then export"
        )


class BlockMismatch(RemoteFault):
    """Bytes from outside that their CID does not name."""

    code = "E640"

    def __init__(self, cid: bytes) -> None:
        super().__init__(f"these bytes are not {_name(cid)}; fetch them from another peer")


class BlockOversized(RemoteFault):
    """More bytes than a block may have."""

    code = "E641"

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(
            f"a block of {size} bytes, at most {size_max}; split it into linked blocks"
        )


class QueryInvalid(RemoteFault):
    """A limit or cursor out of its range."""

    code = "E642"


class QueryTooSlow(RemoteFault):
    """The query passed its deadline."""

    code = "E643"

    def __init__(self, query_ms_max: int) -> None:
        super().__init__(f"stopped after {query_ms_max} ms; ask for fewer rows")


class QueriesBusy(RemoteFault):
    """All readers are taken."""

    code = "E644"

    def __init__(self, wait_ms_max: int) -> None:
        super().__init__(f"no reader became free within {wait_ms_max} ms; repeat in a second")


class ArchiveInvalid(RemoteFault):
    """Not a strict CARv1 file."""

    code = "E650"

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"at byte {offset}: {what}; export the archive again")

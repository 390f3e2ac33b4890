"""What happened in a simulation, line by line, and a digest of it."""

from hashlib import sha256

TRACE_LINES_MAX = 2_000_000  # later ones still count in the digest, but are not kept


class Trace:
    """Lines of `<ms> <node> <what>`. Equal digests mean equal simulations."""

    def __init__(self, *, keep: bool) -> None:
        self._digest = sha256()
        self._keep = keep
        self.lines: list[str] = []
        self.count = 0

    def note(self, now_ms: int, who: str, what: str) -> None:
        line = f"{now_ms} {who} {what}"
        self._digest.update(line.encode())
        self._digest.update(b"\n")
        self.count += 1
        if self._keep and len(self.lines) < TRACE_LINES_MAX:
            self.lines.append(line)

    def hash(self) -> str:
        """64 hexadecimal digits over all lines so far."""
        return self._digest.hexdigest()

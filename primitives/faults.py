"""The two roots of every error tree in Outcry.

RemoteFault   a peer, a trader or a chain broke a rule: it costs them, never us
LocalFault    this process broke a rule or lost something: stop before signing anything

Every class that can reach a person carries a `code` that never changes; its sentence may
improve. Codes are grouped by room:

E0xx primitives   E1xx envelopes   E2xx exchange   E3xx consensus   E4xx node, API, CLI
E5xx p2p          E6xx storage     E7xx settlement  E8xx chat       E9xx devnet
"""


class Fault(Exception):
    """Something with a stable code and a sentence that says what to do next."""

    code: str = "E000"

    @property
    def sentence(self) -> str:
        """What went wrong, for a person."""
        return str(self.args[0]) if self.args else self.__class__.__name__


class RemoteFault(Fault):
    """Whoever sent this broke a rule; this process is unharmed."""


class LocalFault(Fault):
    """This process cannot go on without risking a contradiction."""

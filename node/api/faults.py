"""What a request or a stream can do wrong beyond what `node.faults` names.

RemoteFault
  RequestFault
    BodyLate              E408  the body did not arrive in time
    UnsupportedMedia      E415  the body has a content type that this route does not take
    TooManySubscriptions  E481  a stream has as many subscriptions as it may have
    NotSubscribed         E482  this stream has no such subscription
    TooSlow               E483  the stream reads more slowly than updates come
    FeedLost              E484  the node itself fell behind its own updates
    StreamIdle            E485  a stream that wants nothing and says nothing
    TooManyFaults         E486  a stream that sends little but mistakes
    TooManyStreams        E487  the node serves as many streams as it can
  Unexpected              E490  a mistake of the node itself; whether a write took effect is unknown
  DeadlinePassed          E491  no answer in time; whether a write took effect is unknown
"""

from node.faults import RequestFault


class BodyLate(RequestFault):
    """The body did not arrive in time."""

    code = "E408"
    status = 408

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} s; send it at once")


class UnsupportedMedia(RequestFault):
    """The body has a content type that this route does not take."""

    code = "E415"
    status = 415

    def __init__(self, accepted: str) -> None:
        super().__init__(f"this content type is not taken here; send {accepted}")


class TooManySubscriptions(RequestFault):
    """A stream has as many subscriptions as it may have."""

    code = "E481"

    def __init__(self, items_max: int) -> None:
        super().__init__(
            f"{items_max} subscriptions are the most for one stream; unsubscribe, or open another"
        )


class NotSubscribed(RequestFault):
    """This stream has no such subscription."""

    code = "E482"

    def __init__(self) -> None:
        super().__init__("there is no such subscription; name its channel and fields as before")


class TooSlow(RequestFault):
    """The stream reads more slowly than updates come."""

    code = "E483"

    def __init__(self) -> None:
        super().__init__("updates wait to be read; reconnect and begin again from snapshots")


class FeedLost(RequestFault):
    """The node itself fell behind its own updates."""

    code = "E484"
    status = 503

    def __init__(self) -> None:
        super().__init__("the node lost updates; reconnect and begin again from snapshots")


class StreamIdle(RequestFault):
    """A stream that wants nothing and says nothing."""

    code = "E485"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing was asked for {seconds:g} s; reconnect when there is")


class TooManyFaults(RequestFault):
    """A stream that sends little but mistakes."""

    code = "E486"
    status = 429

    def __init__(self, faults_max: int) -> None:
        super().__init__(f"{faults_max} messages were refused; correct them, then reconnect")


class TooManyStreams(RequestFault):
    """The node serves as many streams as it can."""

    code = "E487"
    status = 503

    def __init__(self, streams_max: int) -> None:
        super().__init__(f"this node serves {streams_max} streams already; try another node")


class Unexpected(RequestFault):
    """A mistake of the node itself; whether a write took effect is unknown."""

    code = "E490"
    status = 500

    def __init__(self) -> None:
        super().__init__(
            "the node made a mistake and noted it; before repeating a write, read its outcome"
        )


class DeadlinePassed(RequestFault):
    """No answer in time; whether a write took effect is unknown."""

    code = "E491"
    status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no answer within {seconds:g} s; before repeating a write, read its outcome"
        )

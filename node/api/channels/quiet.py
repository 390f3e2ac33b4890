"""What channels without work of their own share."""

import trio

from node.api.hub import Publish
from node.api.topics import Topic


class Quiet:
    """Keeps nothing per topic and does nothing by itself."""

    def left(self, _topic: Topic) -> None:
        """Nothing to forget."""

    async def run(self, _publish: Publish) -> None:
        """Nothing to do."""
        await trio.lowlevel.checkpoint()

"""What can be subscribed to, one file per channel."""

from node.api.channels.account import AccountChannel
from node.api.channels.blocks import BlocksChannel
from node.api.channels.book import BookChannel
from node.api.channels.candles import CandlesChannel
from node.api.channels.chat import ChatChannel
from node.api.channels.trades import TradesChannel
from node.api.hub import Channel
from node.api.route import Services


def make_channels(services: Services) -> dict[str, Channel]:
    """All channels, by the name that clients know."""
    return {
        "book": BookChannel(services.node),
        "trades": TradesChannel(services),
        "candles": CandlesChannel(services),
        "account": AccountChannel(services.node),
        "chat": ChatChannel(services),
        "blocks": BlocksChannel(services),
    }

"""Channel `account`: what happens to an account's orders and money."""

from collections.abc import Collection, Iterator

import msgspec

from exchange.actions import Lifetime, Side
from exchange.events import (
    ActionRejected,
    Authorized,
    Closed,
    Deposited,
    Event,
    Filled,
    Placed,
    Withdrawn,
)
from node.api.account_state import (
    AccountView,
    BalanceView,
    OpenOrderView,
    account_view,
    balances,
    open_orders,
)
from node.api.channels.quiet import Quiet
from node.api.face import NodeFace
from node.api.hub import Change, Publish, Snapshot
from node.api.markets import SideText, side_text
from node.api.texts import Hex20, Hex32, Number, hexed
from node.api.topics import Topic
from node.feed import BlockUpdate, Update


class PlacedView(msgspec.Struct, frozen=True, tag_field="type", tag="placed"):
    """The engine took an order. Its fills follow, or it rests."""

    envelope: Hex32
    order: Number
    market: str
    side: SideText
    price: Number
    size: Number
    lifetime: str
    client_id: str


class FilledView(msgspec.Struct, frozen=True, tag_field="type", tag="filled"):
    """A trade of one of the account's orders; `side` and `fee` are its own."""

    market: str
    trade: Number
    price: Number
    size: Number
    order: Number
    role: str
    side: SideText
    fee: Number


class ClosedView(msgspec.Struct, frozen=True, tag_field="type", tag="closed"):
    """An order ended: filled, cancelled, unfilled, or self (it would have met its own)."""

    order: Number
    market: str
    remaining: Number
    reason: str


class RejectedView(msgspec.Struct, frozen=True, tag_field="type", tag="rejected"):
    """Action number `position` of an envelope was refused."""

    envelope: Hex32
    position: Number
    code: str
    client_id: str


class DepositedView(msgspec.Struct, frozen=True, tag_field="type", tag="deposited"):
    deposit: Number
    token: Number
    units: Number


class WithdrawnView(msgspec.Struct, frozen=True, tag_field="type", tag="withdrawn"):
    envelope: Hex32
    token: Number
    units: Number
    recipient: Hex20


class AuthorizedView(msgspec.Struct, frozen=True, tag_field="type", tag="authorized"):
    envelope: Hex32
    key: Hex32
    scope: Number
    expires_ms: Number


EventView = (
    PlacedView
    | FilledView
    | ClosedView
    | RejectedView
    | DepositedView
    | WithdrawnView
    | AuthorizedView
)


class AccountSnapshot(msgspec.Struct, frozen=True):
    """`account` is null before its first deposit."""

    account: AccountView | None
    orders: list[OpenOrderView]


class AccountUpdate(msgspec.Struct, frozen=True):
    """What one block did to the account, in order, and its balances now."""

    balances: list[BalanceView]
    events: list[EventView]


class AccountChannel(Quiet):
    def __init__(self, node: NodeFace) -> None:
        self._node = node
        self._symbols = [market.symbol for market in node.genesis.exchange.markets]

    async def snapshot(self, topic: Topic, _publish: Publish) -> Snapshot:
        node, address = self._node, _address(topic)
        account = node.exchange.account(address)
        if account is None:
            return Snapshot(node.exchange.height, AccountSnapshot(None, []))
        data = AccountSnapshot(account_view(node, account), open_orders(node, address))
        return Snapshot(node.exchange.height, data)

    def changes(self, update: Update, topics: Collection[Topic]) -> Iterator[Change]:
        if not isinstance(update, BlockUpdate):
            return
        found: dict[bytes, list[EventView]] = {_address(topic): [] for topic in topics}
        for event in update.events:
            for address, view in self._views(event):
                if address in found:
                    found[address].append(view)
        for address, views in found.items():
            account = self._node.exchange.account(address) if views else None
            if account is not None:
                data = AccountUpdate(balances(self._node, account), views)
                yield Change(Topic("account", account=hexed(address)), update.height, data)

    def _views(self, event: Event) -> Iterator[tuple[bytes, EventView]]:
        """Whom an event concerns, and what it says to them."""
        if isinstance(event, Filled):
            yield from self._fills(event)
        elif isinstance(event, Placed):
            yield event.account, self._placed(event)
        elif isinstance(event, Closed):
            market = self._symbols[event.market]
            yield event.account, ClosedView(event.order, market, event.remaining, event.reason)
        elif isinstance(event, ActionRejected):
            source = hexed(event.source)
            yield (
                event.account,
                RejectedView(source, event.position, event.code, event.client_id),
            )
        elif isinstance(event, Deposited):
            yield event.account, DepositedView(event.index, event.token, event.units)
        elif isinstance(event, Withdrawn):
            yield (
                event.account,
                WithdrawnView(
                    hexed(event.source), event.token, event.units, hexed(event.recipient)
                ),
            )
        elif isinstance(event, Authorized):
            yield (
                event.account,
                AuthorizedView(
                    hexed(event.source), hexed(event.key), event.scope, event.expires_ms
                ),
            )

    def _placed(self, event: Placed) -> PlacedView:
        return PlacedView(
            envelope=hexed(event.source),
            order=event.order,
            market=self._symbols[event.market],
            side=side_text(event.side),
            price=event.price,
            size=event.size,
            lifetime=Lifetime(event.lifetime).name.lower(),
            client_id=event.client_id,
        )

    def _fills(self, event: Filled) -> Iterator[tuple[bytes, FilledView]]:
        market = self._symbols[event.market]
        opposite = Side.SELL if event.side == Side.BUY else Side.BUY
        for role, account, order, side, fee in (
            ("maker", event.maker_account, event.maker, opposite, event.maker_fee),
            ("taker", event.taker_account, event.taker, event.side, event.taker_fee),
        ):
            yield (
                account,
                FilledView(
                    market=market,
                    trade=event.trade,
                    price=event.price,
                    size=event.size,
                    order=order,
                    role=role,
                    side=side_text(side),
                    fee=fee,
                ),
            )


def _address(topic: Topic) -> bytes:
    return bytes.fromhex((topic.account or "0x")[2:])

"""The trader's SDK: keys, orders, money and talk through any node of an Outcry network.

    wallet = Wallet.load("outcry-wallet.json", passphrase)
    async with Trader.connect("http://127.0.0.1:8001", wallet, evm="http://127.0.0.1:8545") as t:
        await t.wait_credited(await t.deposit("USD", "1000"))
        await t.wait_executed((await t.authorize()).id)
        order = await t.buy("BTC-USD", "0.25", "30000")
        await t.wait_executed(order.id)

Asynchronous, on trio. Amounts are decimal text in whole tokens; what does not fit a market's
grid is refused before anything is signed. Everything that can go wrong is in `client.faults`.
"""

from client._submission import Submission as Submission
from client.amounts import Amount as Amount
from client.amounts import Grid as Grid
from client.amounts import plain as plain
from client.amounts import text as text
from client.amounts import units as units
from client.chain import Chain as Chain
from client.chain import ChainStatistics as ChainStatistics
from client.chain import Mined as Mined
from client.faults import AmountOffGrid as AmountOffGrid
from client.faults import BookDiverged as BookDiverged
from client.faults import ChainRefused as ChainRefused
from client.faults import ChainUnreachable as ChainUnreachable
from client.faults import ClientFault as ClientFault
from client.faults import ForgedMessage as ForgedMessage
from client.faults import InvalidKey as InvalidKey
from client.faults import NetworkMismatch as NetworkMismatch
from client.faults import NoChain as NoChain
from client.faults import NodeMisbehaved as NodeMisbehaved
from client.faults import NodeUnreachable as NodeUnreachable
from client.faults import NotCredited as NotCredited
from client.faults import NotExecuted as NotExecuted
from client.faults import OutcomeUnknown as OutcomeUnknown
from client.faults import ReceiptInvalid as ReceiptInvalid
from client.faults import RefusedByNode as RefusedByNode
from client.faults import Reverted as Reverted
from client.faults import StreamBroken as StreamBroken
from client.faults import Unanswered as Unanswered
from client.faults import UnknownSymbol as UnknownSymbol
from client.faults import Unmined as Unmined
from client.faults import WalletExists as WalletExists
from client.faults import WalletInvalid as WalletInvalid
from client.faults import WrongChain as WrongChain
from client.stream import Stream as Stream
from client.stream import StreamStatistics as StreamStatistics
from client.stream import Update as Update
from client.trader import Trader as Trader
from client.trader import TraderStatistics as TraderStatistics
from client.viewer import Viewer as Viewer
from client.views import AccountView as AccountView
from client.views import BalanceView as BalanceView
from client.views import BookView as BookView
from client.views import CandleView as CandleView
from client.views import ChatView as ChatView
from client.views import ClaimView as ClaimView
from client.views import EnvelopeView as EnvelopeView
from client.views import MarketView as MarketView
from client.views import OrderView as OrderView
from client.views import Status as Status
from client.views import TradeView as TradeView
from client.wallet import Wallet as Wallet
from client.wallet import parse_address as parse_address
from exchange.actions import Action as Action
from exchange.actions import Cancel as Cancel
from exchange.actions import CancelAll as CancelAll
from exchange.actions import CancelClient as CancelClient
from exchange.actions import Lifetime as Lifetime
from exchange.actions import Place as Place
from exchange.actions import SelfTrade as SelfTrade
from exchange.actions import Side as Side
from exchange.actions import Withdraw as Withdraw
from exchange.envelope import Scope as Scope

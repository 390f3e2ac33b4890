"""Outcry for traders: everything that a program needs, in one import.

    import trio
    from outcry import Trader, Wallet

    async def main():
        wallet = Wallet.load("outcry-wallet.json", passphrase)
        async with Trader.connect("http://127.0.0.1:8001", wallet) as trader:
            order = await trader.buy("BTC-USD", "0.25", "30000")
            await trader.wait_executed(order.id)

    trio.run(main)

More of it in docs/examples.
"""

from client import AccountView as AccountView
from client import Action as Action
from client import Amount as Amount
from client import AmountOffGrid as AmountOffGrid
from client import BalanceView as BalanceView
from client import BookDiverged as BookDiverged
from client import BookView as BookView
from client import Cancel as Cancel
from client import CancelAll as CancelAll
from client import CancelClient as CancelClient
from client import CandleView as CandleView
from client import Chain as Chain
from client import ChainRefused as ChainRefused
from client import ChainStatistics as ChainStatistics
from client import ChainUnreachable as ChainUnreachable
from client import ChatView as ChatView
from client import ClaimView as ClaimView
from client import ClientFault as ClientFault
from client import EnvelopeView as EnvelopeView
from client import ForgedMessage as ForgedMessage
from client import Grid as Grid
from client import InvalidKey as InvalidKey
from client import Lifetime as Lifetime
from client import MarketView as MarketView
from client import Mined as Mined
from client import NetworkMismatch as NetworkMismatch
from client import NoChain as NoChain
from client import NodeMisbehaved as NodeMisbehaved
from client import NodeUnreachable as NodeUnreachable
from client import NotCredited as NotCredited
from client import NotExecuted as NotExecuted
from client import OrderView as OrderView
from client import OutcomeUnknown as OutcomeUnknown
from client import Place as Place
from client import ReceiptInvalid as ReceiptInvalid
from client import RefusedByNode as RefusedByNode
from client import Reverted as Reverted
from client import Scope as Scope
from client import SelfTrade as SelfTrade
from client import Side as Side
from client import Status as Status
from client import Stream as Stream
from client import StreamBroken as StreamBroken
from client import StreamStatistics as StreamStatistics
from client import Submission as Submission
from client import Trader as Trader
from client import TraderStatistics as TraderStatistics
from client import TradeView as TradeView
from client import Unanswered as Unanswered
from client import UnknownSymbol as UnknownSymbol
from client import Unmined as Unmined
from client import Update as Update
from client import Viewer as Viewer
from client import Wallet as Wallet
from client import WalletExists as WalletExists
from client import WalletInvalid as WalletInvalid
from client import Withdraw as Withdraw
from client import WrongChain as WrongChain
from client import parse_address as parse_address
from client import plain as plain
from client import text as text
from client import units as units

"""Blocks, the vote journal, and the index of what the chain did: durable, synchronous.

    journal = Journal.open(directory / "journal.db", key.public, network, once=("vote",))
    index = Index.open(directory / "index.db", network)
    index.record_block(ChainRecord(BlockRow(height, cid, batch, time_ms, root), blocks=blocks))
    index.trades(market, limit=100)

Calls block on the disk: make them from a worker thread. One thread writes at a time, reads run
beside it. What can go wrong is in `storage.faults`: a LocalFault means that this process must
stop before it signs anything.
"""

from storage._transfer import JournalSummary as JournalSummary
from storage._transfer import KindSummary as KindSummary
from storage._transfer import export_journal as export_journal
from storage._transfer import import_journal as import_journal
from storage._transfer import inspect_journal as inspect_journal
from storage._transfer import resume_journal as resume_journal
from storage.archive import ArchiveReader as ArchiveReader
from storage.archive import ArchiveSummary as ArchiveSummary
from storage.archive import export_heights as export_heights
from storage.archive import write_archive as write_archive
from storage.blockstore import BLOCK_BYTES_MAX as BLOCK_BYTES_MAX
from storage.blockstore import Blockstore as Blockstore
from storage.blockstore import BlockstoreStatistics as BlockstoreStatistics
from storage.blockstore import SqliteBlockstore as SqliteBlockstore
from storage.candles import INTERVALS_MS as INTERVALS_MS
from storage.faults import BlockDamaged as BlockDamaged
from storage.faults import BlockMismatch as BlockMismatch
from storage.faults import DiskFull as DiskFull
from storage.faults import JournalExported as JournalExported
from storage.faults import QueryInvalid as QueryInvalid
from storage.faults import SlotTaken as SlotTaken
from storage.faults import StorageFault as StorageFault
from storage.index import Index as Index
from storage.index import IndexStatistics as IndexStatistics
from storage.journal import Journal as Journal
from storage.journal import JournalStatistics as JournalStatistics
from storage.queries import QUERY_ROWS_MAX as QUERY_ROWS_MAX
from storage.rows import BlockRow as BlockRow
from storage.rows import CandleRow as CandleRow
from storage.rows import ChainRecord as ChainRecord
from storage.rows import ChatRow as ChatRow
from storage.rows import KeyRow as KeyRow
from storage.rows import OrderClosed as OrderClosed
from storage.rows import OrderRow as OrderRow
from storage.rows import RejectionRow as RejectionRow
from storage.rows import RollupRow as RollupRow
from storage.rows import TradeRow as TradeRow
from storage.rows import TransactionRow as TransactionRow
from storage.rows import WithdrawalRow as WithdrawalRow

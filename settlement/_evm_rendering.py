"""py-evm's blocks, transactions, receipts and logs as the JSON that Ethereum's RPC defines."""

from typing import Any

import msgspec

from settlement._evm_store import StoredBlock, StoredLog, StoredTransaction

Json = dict[str, Any]


def data(value: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return "0x" + bytes(value).hex()


def quantity(value: int) -> str:
    """An integer as JSON-RPC writes it: no leading zeros."""
    return hex(value)


def stored_block(block: Any, receipts: list[Any], contract: bytes | None) -> StoredBlock:
    """All that the database keeps of one block of at most one transaction.

    `contract` is the address that the transaction created, if any.
    """
    header = block.header
    transactions: list[StoredTransaction] = []
    logs: list[StoredLog] = []
    for index, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        place = {
            "blockHash": data(header.hash),
            "blockNumber": quantity(header.block_number),
            "transactionHash": data(transaction.hash),
            "transactionIndex": quantity(index),
        }
        rendered = [_log(log, position, place) for position, log in enumerate(receipt.logs)]
        logs += [
            StoredLog(log.address, b"".join(_word(t) for t in log.topics), _encode(json))
            for log, json in zip(receipt.logs, rendered, strict=True)
        ]
        transactions.append(
            StoredTransaction(
                transaction.hash,
                _encode(_transaction(transaction, header, place)),
                _encode(_receipt(transaction, receipt, header, place, rendered, contract)),
            )
        )
    return StoredBlock(header.block_number, header.hash, _encode(_block(block)), transactions, logs)


def _encode(json: Json) -> bytes:
    return msgspec.json.encode(json)


def _word(topic: int) -> bytes:
    return topic.to_bytes(32, "big")


def _block(block: Any) -> Json:
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": data(header.bloom.to_bytes(256, "big")),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "extraData": data(header.extra_data),
        "size": quantity(sum(len(tx.encode()) for tx in block.transactions)),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
        "transactions": [data(tx.hash) for tx in block.transactions],
        "withdrawals": [],
        "uncles": [],
    }


def _transaction(transaction: Any, header: Any, place: Json) -> Json:
    kind = _kind(transaction)
    json: Json = {
        "blockHash": place["blockHash"],
        "blockNumber": place["blockNumber"],
        "transactionIndex": place["transactionIndex"],
        "hash": place["transactionHash"],
        "type": quantity(kind),
        "nonce": quantity(transaction.nonce),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(_gas_price(transaction, header)),
        "input": data(transaction.data),
        "v": quantity(transaction.y_parity if kind else transaction.v),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    if transaction.chain_id is not None:
        json["chainId"] = quantity(transaction.chain_id)
    if kind:
        json["yParity"] = quantity(transaction.y_parity)
        json["accessList"] = [
            {"address": data(address), "storageKeys": [data(_word(slot)) for slot in slots]}
            for address, slots in transaction.access_list
        ]
    if kind >= 2:
        json["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        json["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return json


def _receipt(
    transaction: Any,
    receipt: Any,
    header: Any,
    place: Json,
    logs: list[Json],
    contract: bytes | None,
) -> Json:
    return {
        **place,
        "type": quantity(_kind(transaction)),
        "from": data(transaction.sender),
        "to": data(transaction.to) if transaction.to else None,
        "contractAddress": data(contract) if contract else None,
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "gasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(_gas_price(transaction, header)),
        "logs": logs,
        "logsBloom": data(receipt.bloom.to_bytes(256, "big")),
        "status": quantity(int.from_bytes(receipt.state_root, "big")),
    }


def _log(log: Any, position: int, place: Json) -> Json:
    return {
        **place,
        "address": data(log.address),
        "topics": [data(_word(topic)) for topic in log.topics],
        "data": data(log.data),
        "logIndex": quantity(position),
        "removed": False,
    }


def _kind(transaction: Any) -> int:
    kind: int = getattr(transaction, "type_id", None) or 0
    return kind


def _gas_price(transaction: Any, header: Any) -> int:
    price: int = min(
        transaction.max_fee_per_gas,
        transaction.max_priority_fee_per_gas + header.base_fee_per_gas,
    )
    return price

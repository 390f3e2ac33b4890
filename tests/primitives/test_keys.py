"""Hashes, signatures and the key file."""

import json

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from primitives import ed25519, hashing, keccak_tree, keystore, secp256k1
from primitives.anchors import deposit_accumulator, withdrawal_leaf
from primitives.durable import replace_file
from primitives.eip712 import Domain, TypedMessage
from primitives.keystore import KeystoreUnreadable, WrongPassphrase

NETWORK = bytes(range(32))
FAST = 1 << 4


def test_a_digest_depends_on_domain_network_and_the_cut_between_parts():
    seen = {
        hashing.digest("outcry/a/1", NETWORK, b"xy"),
        hashing.digest("outcry/b/1", NETWORK, b"xy"),
        hashing.digest("outcry/a/1", bytes(32), b"xy"),
        hashing.digest("outcry/a/1", NETWORK, b"x", b"y"),
        hashing.digest("outcry/a/1", NETWORK, b"xy", b""),
    }
    assert len(seen) == 5


def test_a_network_id_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        hashing.digest("outcry/a/1", b"short")


def test_ed25519_follows_rfc_8032():
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = ed25519.SigningKey(seed)
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")
    assert ed25519.verify(key.public, b"", key.sign(b""))


@given(st.binary(max_size=70), st.binary(max_size=70), st.binary(max_size=40))
def test_ed25519_never_raises_on_garbage(public, signature, message):
    assert not ed25519.verify(public, message, signature)


def test_a_small_order_key_signs_nothing():
    assert not ed25519.verify(bytes(32), b"m", bytes(64))
    assert not ed25519.verify(b"\x01" + bytes(31), b"m", b"\x01" + bytes(63))


def test_an_evm_key_has_the_address_that_wallets_show():
    secret = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    key = secp256k1.EvmKey(secret)
    assert secp256k1.checksum_address(key.address) == Account.from_key(secret).address
    digest = bytes(range(32))
    assert secp256k1.recover(digest, key.sign(digest)) == key.address


def test_the_mirrored_signature_is_refused():
    order = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
    key, digest = secp256k1.EvmKey(b"\x07" * 32), bytes(range(32))
    signature = key.sign(digest)
    mirrored_s = (order - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    mirrored = signature[:32] + mirrored_s + bytes([55 - signature[64]])
    assert secp256k1.recover(digest, mirrored) is None


@given(st.binary(max_size=66))
def test_recover_never_raises_on_garbage(signature):
    secp256k1.recover(bytes(32), signature)


def test_a_wallet_signs_the_same_typed_data():
    message = TypedMessage(
        "Authorize", (("address", "account"), ("bytes32", "key"), ("uint64", "nonce"))
    )
    domain = Domain(31337, NETWORK)
    values = (b"\x11" * 20, b"\x22" * 32, 9)
    secret = b"\x05" * 32
    signed = Account.sign_message(
        encode_typed_data(full_message=message.as_json(domain, *values)), secret
    )
    signer = secp256k1.recover(message.digest(domain, *values), bytes(signed.signature))
    assert signer == secp256k1.EvmKey(secret).address


def test_only_static_types_can_be_declared():
    with pytest.raises(ValueError, match="static"):
        TypedMessage("X", (("string", "name"),))


@given(st.integers(1, 70), st.data())
def test_every_leaf_of_a_keccak_tree_has_its_own_proof(count, data):
    leaves = [withdrawal_leaf(1, i, bytes(20), 0, i + 1) for i in range(count)]
    index = data.draw(st.integers(0, count - 1))
    root, siblings = keccak_tree.root(leaves), keccak_tree.proof(leaves, index)
    assert keccak_tree.verify(root, leaves[index], index, siblings)
    wrong = data.draw(st.integers(0, 2 * count))
    assert wrong == index or not keccak_tree.verify(root, leaves[index], wrong, siblings)


def test_an_empty_keccak_tree_has_the_zero_root_and_no_proofs():
    assert keccak_tree.root([]) == bytes(32)
    with pytest.raises(IndexError):
        keccak_tree.proof([], 0)
    with pytest.raises(ValueError, match="at least one"):
        keccak_tree.levels([])


def test_the_accumulator_depends_on_every_field():
    base = (bytes(32), 3, b"\x01" * 20, 1, 500)
    seen = {deposit_accumulator(*base)}
    for place, other in enumerate((b"\x01" * 32, 4, b"\x02" * 20, 2, 501)):
        seen.add(deposit_accumulator(*[*base[:place], other, *base[place + 1 :]]))
    assert len(seen) == 6


def test_a_keystore_gives_back_what_it_took(tmp_path):
    path = tmp_path / "keys.json"
    keystore.write(path, {"consensus": b"\x01" * 32}, "open sesame", scrypt_n=FAST)
    assert keystore.read(path, "open sesame") == {"consensus": b"\x01" * 32}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_passphrase_says_so(tmp_path):
    path = tmp_path / "keys.json"
    keystore.write(path, {"a": b"b"}, "right", scrypt_n=FAST)
    with pytest.raises(WrongPassphrase, match="does not open"):
        keystore.read(path, "wrong")


@pytest.mark.parametrize(
    "change",
    [
        {"scrypt_n": 1 << 30},
        {"scrypt_n": 17},
        {"format": "other"},
        {"nonce": ""},
        {"extra": 1},
        None,
    ],
)
def test_a_damaged_keystore_is_refused(tmp_path, change):
    path = tmp_path / "keys.json"
    keystore.write(path, {"a": b"b"}, "right", scrypt_n=FAST)
    body = (
        b"not json"
        if change is None
        else json.dumps(json.loads(path.read_bytes()) | change).encode()
    )
    path.write_bytes(body)
    with pytest.raises(KeystoreUnreadable):
        keystore.read(path, "right")


def test_a_changed_salt_does_not_open(tmp_path):
    path = tmp_path / "keys.json"
    keystore.write(path, {"a": b"b"}, "right", scrypt_n=FAST)
    file = json.loads(path.read_bytes())
    file["salt"] = file["nonce"]
    path.write_text(json.dumps(file))
    with pytest.raises(WrongPassphrase):
        keystore.read(path, "right")


def test_a_missing_keystore_says_where_it_looked(tmp_path):
    with pytest.raises(KeystoreUnreadable, match="nowhere"):
        keystore.read(tmp_path / "nowhere", "x")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"old")
    with pytest.raises(TypeError):
        replace_file(path, "text is not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

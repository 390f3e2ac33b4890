"""Hashing, keys, signatures, Merkle trees, and the canonical codec: floor 0.

Each module is a small, complete face of its own; import it by name:

    from primitives import codec, hashing
    from primitives.ed25519 import SigningKey

    digest = hashing.digest("outcry/vote/1", network, codec.encode(vote))
"""

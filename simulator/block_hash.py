"""Names of KV blocks: a digest of the block's tokens chained to the digest of the block before it.

h(i) = H(h(i-1), tokens of block i, extra keys), with the seed in the place of the first parent. Two prompts share a
block exactly when they share everything before it, the adapter and the salt. The form of H can be
chosen as in engines: `sha256` gives 32 bytes, `xxhash` and `fnv` eight.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from typing import TypeAlias

BlockHash: TypeAlias = bytes
HashFunction: TypeAlias = Callable[[bytes], bytes]

_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_MASK = 2**64 - 1


def fnv_1a(data: bytes) -> bytes:
    """Return the 64-bit FNV-1a digest (Fowler, Noll, Vo) of `data`."""
    value = _FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & _MASK
    return value.to_bytes(8, "big")


def _sha256(data: bytes) -> bytes:
    return sha256(data).digest()


def hash_function(name: str) -> HashFunction:
    """Return H by its name; raises ValueError for an unknown one."""
    if name == "xxhash":
        digest: HashFunction = import_module("xxhash").xxh64_digest
        return digest
    if name not in {"sha256", "fnv"}:
        raise ValueError(f"{name!r} is none of sha256, xxhash, fnv")
    return _sha256 if name == "sha256" else fnv_1a


class BlockHasher:
    """Computes chains; equal settings give equal names in every process."""

    def __init__(self, block_tokens: int, function: HashFunction = _sha256, seed: str = "") -> None:
        self.block_tokens = block_tokens
        self._function = function
        self._root = function(b"root " + seed.encode())

    def extend(self, chain: list[BlockHash], tokens: Sequence[int], end: int, extra: bytes = b"") -> None:
        """Append to `chain` the names that it lacks of all full blocks among the first `end` tokens."""
        size = self.block_tokens
        parent = chain[-1] if chain else self._root
        for start in range(len(chain) * size, end - size + 1, size):
            parent = self._function(parent + array("I", tokens[start : start + size]).tobytes() + extra)
            chain.append(parent)


def as_integer(name: BlockHash) -> int:
    """Return the number under which events announce a block: its first eight bytes, big-endian."""
    return int.from_bytes(name[:8], "big")

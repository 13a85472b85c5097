"""What the KV cache tells the world: three kinds of events, and the encodings in which engines send them.

The map form is that of vLLM 0.32 (`type` beside named fields); the array form that of older engines, read by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from simulator.block_hash import BlockHash, as_integer

MEDIUM = "GPU"
GROUP_INDEX = 0
SPEC_KIND = "full_attention"

EncodingName: TypeAlias = Literal["map", "array"]
HashForm: TypeAlias = Literal["int", "bytes"]


@dataclass(frozen=True, slots=True)
class AdapterKey:
    """The adapter whose blocks these are."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Consecutive full blocks became usable by other sequences."""

    hashes: tuple[BlockHash, ...]
    parent: BlockHash | None
    tokens: tuple[int, ...]
    block_tokens: int
    adapter: AdapterKey | None = None
    salt: str | None = None

    @property
    def extra_keys(self) -> list[list[str] | None]:
        """Return per block what beside its tokens is part of its name; the salt enters with the first block."""
        names = [] if self.adapter is None else [self.adapter.name]
        first = [*names, self.salt] if self.salt is not None and self.parent is None else names
        return [first or None, *([names or None] * (len(self.hashes) - 1))]


@dataclass(frozen=True, slots=True)
class BlockRemoved:
    """A block was evicted."""

    hash: BlockHash


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """The cache is empty."""


CacheEvent: TypeAlias = BlocksStored | BlockRemoved | AllBlocksCleared


def payload(at: float, events: Sequence[CacheEvent], rank: int, encoding: EncodingName, form: HashForm) -> list[Any]:
    """Return one batch as the value that is packed: time in seconds, events, data-parallel rank."""
    encode = _as_map if encoding == "map" else _as_array
    return [at, [encode(event, form) for event in events], rank]


def _as_map(event: CacheEvent, form: HashForm) -> dict[str, Any]:
    if isinstance(event, AllBlocksCleared):
        return {"type": "AllBlocksCleared"}
    if isinstance(event, BlockRemoved):
        return {
            "type": "BlockRemoved",
            "block_hashes": [_hash(event.hash, form)],
            "medium": MEDIUM,
            "group_idx": GROUP_INDEX,
        }
    return {
        "type": "BlockStored",
        "block_hashes": [_hash(name, form) for name in event.hashes],
        "parent_block_hash": None if event.parent is None else _hash(event.parent, form),
        "token_ids": list(event.tokens),
        "block_size": event.block_tokens,
        "lora_id": None if event.adapter is None else event.adapter.number,
        "medium": MEDIUM,
        "lora_name": None if event.adapter is None else event.adapter.name,
        "extra_keys": event.extra_keys,
        "group_idx": GROUP_INDEX,
        "kv_cache_spec_kind": SPEC_KIND,
    }


def _as_array(event: CacheEvent, form: HashForm) -> list[Any]:
    """Return the tagged array; a `BlockStored` stops after `lora_name`, the rest are defaults that may be left out."""
    if isinstance(event, AllBlocksCleared):
        return ["AllBlocksCleared"]
    if isinstance(event, BlockRemoved):
        return ["BlockRemoved", [_hash(event.hash, form)], MEDIUM]
    named = _as_map(event, form)
    order = ("type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name")
    return [named[field] for field in order]


def _hash(name: BlockHash, form: HashForm) -> int | bytes:
    return as_integer(name) if form == "int" else name

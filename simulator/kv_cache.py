"""The KV cache as blocks: who holds them, which can be found again, which goes first when room is needed.

    fresh ──allocate──► held (references > 0) ──release──► free, oldest first ──allocate──► held
                           │ seal: the block is full          │ still found by its hash until it is
                           └─ and gets its hash               └─ allocated again (BlockRemoved)

A sequence that seals a block which another one has sealed already takes that one instead of its own. So whoever holds
a block holds all before it, and blocks are freed last first: leaves always leave the cache before their ancestors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from simulator.block_hash import BlockHash
from simulator.kv_events import AdapterKey, AllBlocksCleared, BlockRemoved, BlocksStored, CacheEvent

EventSink = Callable[[CacheEvent], None]


class KVCache:
    """A fixed number of blocks. Events go to `sink` in the order of the changes."""

    def __init__(self, num_blocks: int, block_tokens: int, sink: EventSink | None = None) -> None:
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self.sink = sink
        self._references: list[int] = []
        self._hashes: list[BlockHash | None] = []
        self._adapters: dict[int, str] = {}
        self._free: OrderedDict[int, None] = OrderedDict()
        self._found: dict[BlockHash, int] = {}

    @property
    def free_blocks(self) -> int:
        return self.num_blocks - len(self._references) + len(self._free)

    @property
    def held_blocks(self) -> int:
        return len(self._references) - len(self._free)

    @property
    def cached_hashes(self) -> frozenset[BlockHash]:
        """Return the names under which blocks can be found."""
        return frozenset(self._found)

    def references(self) -> dict[int, int]:
        """Return the number of holders of each held block."""
        return {block: count for block, count in enumerate(self._references) if count}

    def match(self, chain: Sequence[BlockHash], limit: int) -> int:
        """Return how many blocks at the start of `chain` are cached, at most `limit`."""
        found = 0
        for name in chain[:limit]:
            if name not in self._found:
                break
            found += 1
        return found

    def acquire(self, names: Sequence[BlockHash], more: int) -> list[int] | None:
        """Hold the cached blocks of `names` and `more` new ones; None, and no change, when there is no room."""
        cached = [self._found[name] for name in names]
        revived = sum(block in self._free for block in cached)
        if more > self.free_blocks - revived:
            return None
        for block in cached:
            self._hold(block)
        return [*cached, *(self._take() for _ in range(more))]

    def seal(
        self,
        blocks: list[int],
        chain: Sequence[BlockHash],
        first: int,
        tokens: Sequence[int],
        adapter: AdapterKey | None = None,
        salt: str | None = None,
    ) -> None:
        """Name the full blocks from place `first` to the end of `chain`, and announce those that are new.

        `blocks` are the sequence's own and change where another holder's equal block is taken over.
        """
        new: list[int] = []
        for place in range(first, len(chain)):
            if self._adopt(blocks, place, chain[place]):
                self._announce(new, chain, tokens, adapter, salt)
                new = []
                continue
            self._found[chain[place]] = blocks[place]
            self._hashes[blocks[place]] = chain[place]
            if adapter is not None:
                self._adapters[blocks[place]] = adapter.name
            new.append(place)
        self._announce(new, chain, tokens, adapter, salt)

    def release(self, blocks: Sequence[int]) -> None:
        """Give up a sequence's blocks, in the order of its tokens.

        Named ones stay findable until they are needed; nameless ones are of no more use and go first.
        """
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
                if self._hashes[block] is None:
                    self._free.move_to_end(block, last=False)

    def disfavour(self, adapter: str) -> None:
        """Let the unheld blocks of an adapter go first."""
        ranked = [block for block in self._free if self._adapters.get(block) == adapter]
        for block in reversed(ranked):
            self._free.move_to_end(block, last=False)

    def clear(self) -> None:
        """Forget every name. No block may be held, since a holder would go on naming blocks after forgotten ones."""
        assert not self.held_blocks
        for block in self._found.values():
            self._hashes[block] = None
        self._found.clear()
        self._adapters.clear()
        self._tell(AllBlocksCleared())

    def _hold(self, block: int) -> None:
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1

    def _take(self) -> int:
        """Return a block that nobody holds: a fresh one while there are any, then the oldest."""
        if len(self._references) < self.num_blocks:
            self._references.append(1)
            self._hashes.append(None)
            return len(self._references) - 1
        block, _ = self._free.popitem(last=False)
        self._references[block] = 1
        name = self._hashes[block]
        if name is not None:
            self._forget(block, name)
        return block

    def _forget(self, block: int, name: BlockHash) -> None:
        del self._found[name]
        self._hashes[block] = None
        self._adapters.pop(block, None)
        self._tell(BlockRemoved(name))

    def _adopt(self, blocks: list[int], place: int, name: BlockHash) -> bool:
        """Return whether a block of that name exists, held from here on in place of the sequence's own."""
        found = self._found.get(name)
        if found is None:
            return False
        if found != blocks[place]:
            self._hold(found)
            self.release((blocks[place],))
            blocks[place] = found
        return True

    def _announce(
        self,
        places: Sequence[int],
        chain: Sequence[BlockHash],
        tokens: Sequence[int],
        adapter: AdapterKey | None,
        salt: str | None,
    ) -> None:
        if not places or self.sink is None:
            return
        start, end = places[0], places[-1] + 1
        parent = chain[start - 1] if start else None
        covered = tokens[start * self.block_tokens : end * self.block_tokens]
        self._tell(BlocksStored(tuple(chain[start:end]), parent, tuple(covered), self.block_tokens, adapter, salt))

    def _tell(self, event: CacheEvent) -> None:
        if self.sink is not None:
            self.sink(event)


def replayed(events: Iterable[CacheEvent]) -> frozenset[BlockHash]:
    """Return the names that a reader of all `events` believes to be cached."""
    names: set[BlockHash] = set()
    for event in events:
        if isinstance(event, BlocksStored):
            names.update(event.hashes)
        elif isinstance(event, BlockRemoved):
            names.discard(event.hash)
        else:
            names.clear()
    return frozenset(names)

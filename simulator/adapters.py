"""The adapters that can be named as models: loading, unloading, and the replies of the engines to both.

In the recorded form replies are those of vLLM 0.32; the mock form is AIBrix's, where an unknown adapter is a 400 and
successes are JSON.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simulator.engine import Engine
from simulator.errors import AdapterNotFoundError, InvalidUserInputError
from simulator.kv_events import AdapterKey

MISSING_PATH = re.compile(r"nonexistent|/invalid/|nowhere", re.IGNORECASE)
"""Paths at which nothing is, since artifacts need not exist for the simulator."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One loaded adapter."""

    key: AdapterKey
    path: str
    loaded: int
    pinned: bool = False


class Adapters:
    """The loaded adapters by name, in the order of loading."""

    def __init__(self, engines: Iterable[Engine], most_rank: int, *, mock_replies: bool) -> None:
        self._engines = tuple(engines)
        self._most_rank = most_rank
        self._mock = mock_replies
        self._loaded: dict[str, Adapter] = {}
        self._number = 0

    def __iter__(self) -> Iterator[Adapter]:
        return iter(self._loaded.values())

    def find(self, name: str) -> Adapter | None:
        return self._loaded.get(name)

    def load(self, name: str, path: str, *, pinned: bool = False, in_place: bool = False) -> Adapter:
        """Load an adapter. Raises InvalidUserInputError or AdapterNotFoundError and changes nothing."""
        if not name or not path:
            raise InvalidUserInputError("Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._loaded and not in_place:
            raise InvalidUserInputError(self._duplicate(name))
        if MISSING_PATH.search(path):
            raise AdapterNotFoundError(f"Loading lora {name} failed: No adapter found for {path}")
        rank = read_rank(path)
        if rank > self._most_rank:
            raise InvalidUserInputError(f"LoRA rank {rank} is greater than max_lora_rank {self._most_rank}.")
        if pinned and not all(engine.slots.pin(name) for engine in self._engines):
            raise InvalidUserInputError("All slots are taken by pinned adapters.")
        return self._enter(name, path, pinned=pinned)

    def unload(self, name: str) -> None:
        """Unload an adapter. Raises InvalidUserInputError or AdapterNotFoundError."""
        if not name:
            raise InvalidUserInputError("'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self._loaded:
            raise AdapterNotFoundError(f"The lora adapter '{name}' cannot be found.", 400 if self._mock else 404)
        del self._loaded[name]
        for engine in self._engines:
            engine.forget_adapter(name)

    def _enter(self, name: str, path: str, *, pinned: bool) -> Adapter:
        self._number += 1
        adapter = Adapter(AdapterKey(self._number, name), path, int(time.time()), pinned)
        self._loaded[name] = adapter
        for engine in self._engines:
            engine.slots.fetch(name)
        return adapter

    def _duplicate(self, name: str) -> str:
        told = f"The lora adapter '{name}' has already been loaded."
        return told if self._mock else f"{told} If you want to load the adapter in place, set 'load_inplace' to True."


def read_rank(path: str) -> int:
    """Return the rank in the adapter's configuration, or at the end of a path like `name-r64`; 1 when neither says."""
    file = Path(path) / "adapter_config.json"
    try:
        rank = json.loads(file.read_text())["r"]
        return int(rank)
    except (OSError, ValueError, KeyError, TypeError):
        found = re.search(r"-r(\d{1,6})$", path)
        return int(found.group(1)) if found else 1

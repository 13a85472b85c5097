"""Where adapters are: on the device, in host memory, or only on disk.

At most `device_slots` different adapters run at once. An adapter that is not on the device costs a swap, one that is
not in host memory either costs a load; the least recently used one that does not run makes room, pinned ones never.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from simulator.kv_events import AdapterKey


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraLimits:
    """Sizes and costs of adapters."""

    device_slots: int = 1
    host_slots: int = 1
    most_rank: int = 16
    load_seconds: float = 0.0
    swap_seconds: float = 0.0


class LoraSlots:
    """The adapters on the device and in host memory, least recently used first."""

    def __init__(self, limits: LoraLimits) -> None:
        self.limits = limits
        self.device: OrderedDict[str, None] = OrderedDict()
        self.host: OrderedDict[str, None] = OrderedDict()
        self.pinned: set[str] = set()
        self.swaps = 0
        self._running: dict[str, int] = {}

    @property
    def running(self) -> list[str]:
        return sorted(self._running)

    def fits(self, adapter: AdapterKey | None) -> bool:
        """Return whether a sequence of this adapter may run beside those that run."""
        if adapter is None or adapter.name in self._running or adapter.name in self.device:
            return True
        fixed = self._running.keys() | (self.pinned & self.device.keys())
        return len(fixed) < self.limits.device_slots

    def enter(self, adapter: AdapterKey | None) -> float:
        """Bring the adapter onto the device for one more sequence; return the seconds that takes."""
        if adapter is None:
            return 0.0
        self._running[adapter.name] = self._running.get(adapter.name, 0) + 1
        if adapter.name in self.device:
            self.device.move_to_end(adapter.name)
            return 0.0
        loading = 0.0 if self.fetch(adapter.name) else self.limits.load_seconds
        self._make_room(self.device, self.limits.device_slots - 1, adapter.name)
        self.device[adapter.name] = None
        self.swaps += 1
        return loading + self.limits.swap_seconds

    def leave(self, adapter: AdapterKey | None) -> None:
        """Note that one sequence of the adapter has ended."""
        if adapter is None:
            return
        self._running[adapter.name] -= 1
        if not self._running[adapter.name]:
            del self._running[adapter.name]

    def fetch(self, name: str) -> bool:
        """Bring the adapter into host memory; return whether it was there."""
        present = name in self.host
        self.host[name] = None
        self.host.move_to_end(name)
        self._make_room(self.host, self.limits.host_slots, name)
        return present

    def pin(self, name: str) -> bool:
        """Keep the adapter on the device; False when all slots are pinned."""
        if name not in self.pinned and len(self.pinned) >= self.limits.device_slots:
            return False
        self.pinned.add(name)
        return True

    def forget(self, name: str) -> None:
        """Drop an unloaded adapter wherever it is."""
        for place in (self.device, self.host):
            place.pop(name, None)
        self.pinned.discard(name)

    def _make_room(self, place: OrderedDict[str, None], size: int, keep: str) -> None:
        """Drop the least recently used until at most `size` are left or all others are needed."""
        fixed = self._running.keys() | self.pinned | {keep}
        surplus = len(place) - size
        for name in [name for name in place if name not in fixed][: max(surplus, 0)]:
            del place[name]

"""Pod addresses: handed out in a circle, so that a freed one rests before it is used again."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network


class AddressPool:
    """The pod range. What pods hold is kept in their own state files and claimed again at start."""

    def __init__(self, pod_range: IPv4Network) -> None:
        self._first = int(pod_range.network_address) + 2
        self._count = pod_range.num_addresses - 3
        self._next = 0
        self._owners: dict[str, str] = {}

    def claim(self, address: str, owner: str) -> bool:
        """Takes a known address for `owner`; false when another pod holds it or it is out of range."""
        offset = int(IPv4Address(address)) - self._first
        if not 0 <= offset < self._count or self._owners.get(address, owner) != owner:
            return False
        self._owners[address] = owner
        self._next = max(self._next, offset + 1)
        return True

    def take(self, owner: str) -> str:
        """A free address; raises RuntimeError when the range is used up."""
        for step in range(self._count):
            address = str(IPv4Address(self._first + (self._next + step) % self._count))
            if address not in self._owners:
                self._next = (self._next + step + 1) % self._count
                self._owners[address] = owner
                return address
        raise RuntimeError("the pod range has no free address")

    def release(self, owner: str) -> None:
        """Frees what `owner` holds."""
        self._owners = {address: holder for address, holder in self._owners.items() if holder != owner}

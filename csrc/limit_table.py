"""The segment's table of users and their limits, as the collector writes it; see `csrc/quota.h`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from csrc import _kernel
from csrc.handles import Texts, check
from csrc.records import User

_ffi: Any = _kernel.ffi
_lib: Any = _kernel.lib

USERS_CAPACITY: int = _lib.brix_users_capacity()
"""How many names the segment has room for."""


def _unsigned(number: int) -> int:
    return min(max(number, 0), (1 << 63) - 1)


class LimitTable:
    """Who may take how much. Times are CLOCK_MONOTONIC in seconds, 0 asks the clock."""

    def __init__(self, live: Callable[[], Any]) -> None:
        self._live = live

    def replace(self, users: Mapping[str, User], now: float = 0) -> int:
        """Make these the users that the segment holds, all others are forgotten; how many found no room."""
        _lib.brix_writer_users_begin(self._live())
        left_out = sum(self.put(name, user, now=now) is None for name, user in users.items())
        _lib.brix_writer_users_end(self._live())
        return left_out

    def put(self, name: str, user: User | None, *, replaces: bool = False, now: float = 0) -> int | None:
        """Tell of one user, or that there is none of this name (None), for five seconds. `replaces`: an idle one may
        go. The key by which `owed` names the user; None when there is no room."""
        texts, raw, key = Texts(), _ffi.new("brix_text *"), _ffi.new("uint64_t *")
        texts.fill(raw, name)
        limits = user or User()
        record = (int(user is not None), int(replaces), _unsigned(limits.rpm), _unsigned(limits.tpm))
        given = _ffi.new("brix_user_record *", record)
        status = _lib.brix_writer_user_limits(self._live(), raw[0], given, round(now * 1e9), key)
        if status == _lib.BRIX_FULL:
            return None
        check(status, "a user without a name")
        return int(key[0])

    def owed(self, now: float = 0) -> dict[int, int]:
        """Tokens by user's key that the shared store was not told of; they are handed over, once."""
        index, raw, found = _ffi.new("uint32_t *"), _ffi.new("brix_owed *"), {}
        while _lib.brix_writer_owed(self._live(), index, round(now * 1e9), raw) == _lib.BRIX_OK:
            found[int(raw.key)] = int(raw.tokens)
        return found

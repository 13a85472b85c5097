"""Who polls for what: one poll an object and scope in this process, and when each object was last looked after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from activities.store import Cache
from planning.wire import Ref


@dataclass(eq=False, slots=True)
class Poll:
    """One waiting call: `changed` is set by the cache, `over` once a newer poll or the process's end replaces it.

    `beat_at`: when to tell Temporal next that somebody waits (monotonic); most polls of a burst end before the first.
    """

    uid: str
    scope: str | None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    beat_at: float = 0.0

    def end(self) -> None:
        self.over = True
        self.changed.set()


class Polls:
    """`tended` knows for each object how long ago a workflow last asked or acted for it."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._open: dict[tuple[str, str | None], Poll] = {}
        self._tended: dict[str, float] = {}
        self._busy: dict[str, int] = {}
        self.closed = False

    def close(self) -> None:
        """End every poll; later ones end at once."""
        self.closed = True
        for poll in list(self._open.values()):
            poll.end()

    def reopen(self) -> None:
        self.closed = False

    @contextmanager
    def open(self, ref: Ref, scope: str | None) -> Iterator[Poll]:
        """A poll that ends the older one of the same object and scope at once."""
        key = (ref.uid, scope)
        if older := self._open.get(key):
            older.end()
        poll = Poll(ref.uid, scope, over=self.closed)
        self._open[key] = poll
        names = (ref.uid, f"{ref.namespace}/{ref.name}")
        for name in names:
            self._cache.listen(name, poll.changed)
        try:
            with self.tending(ref.uid):
                yield poll
        finally:
            for name in names:
                self._cache.unlisten(name, poll.changed)
            if self._open.get(key) is poll:
                del self._open[key]

    @contextmanager
    def tending(self, uid: str) -> Iterator[None]:
        self._busy[uid] = self._busy.get(uid, 0) + 1
        try:
            yield
        finally:
            self._busy[uid] -= 1
            if not self._busy[uid]:
                del self._busy[uid]
            self._tended[uid] = time.monotonic()

    def untended_seconds(self, uid: str, since: float) -> float:
        """Seconds without a poll or a step, counted from `since` (monotonic) for an object never looked after."""
        if uid in self._busy:
            return 0.0
        return time.monotonic() - max(self._tended.get(uid, 0.0), since)

    def was_tended(self, uid: str) -> bool:
        """Whether a poll or a step of this process has ever been about the object."""
        return uid in self._busy or uid in self._tended

    def touch(self, uid: str) -> None:
        """Count the object as looked after at this moment."""
        self._tended[uid] = time.monotonic()

    def keep_only(self, uids: Collection[str]) -> None:
        """Forget objects that no longer exist."""
        for uid in [uid for uid in self._tended if uid not in uids]:
            del self._tended[uid]

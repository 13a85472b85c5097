"""The collector's side of limits: it tells the segment of users, and answers what the segment cannot know.

A question comes from Envoy's module as an HTTP callout, from an ext_proc process as the same request, over a unix
socket beside the segment. `csrc/flow_quota.c` says what question and answer mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiohttp import web

from csrc.binding import SegmentWriter, User, UserRules
from gateway.shared_limits import SharedLimits
from gateway.users import UsersFile

LOOK_SECONDS = 0.5
OWED_SECONDS = 0.1
HERE = b"L"
NOBODY = b"U"

log = logging.getLogger("gateway.quotas")


@dataclass(frozen=True, slots=True)
class Question:
    """What a request would take. `user` is empty for a request of nobody, `rps` 0 for a model without that limit."""

    user: str
    model: str
    profile: str
    rps: int
    lacks_usage: bool

    @classmethod
    def parse(cls, raw: bytes) -> Question:
        """The question of a body; raises ValueError for another one."""
        asked = orjson.loads(raw)
        try:
            return cls(asked["user"], asked["model"], asked["profile"], asked["rps"], bool(asked["lacks_usage"]))
        except (KeyError, TypeError) as missing:
            raise ValueError("no question") from missing


class Quotas:
    """Users out of a file or out of Redis, in the segment. `changed` is called when `rules` are others than before."""

    def __init__(
        self, writer: SegmentWriter, file: Path | None, shared: SharedLimits | None, changed: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._shared = shared
        self._file = UsersFile(file) if file is not None and shared is None else None
        self._changed = changed
        self._users: dict[str, User] = {}
        self._left_out = 0
        self.look()

    @property
    def rules(self) -> UserRules:
        """What a user's name means now."""
        if self._shared is not None:
            return UserRules(known=True, shared=True, closed=self._shared.fails_closed)
        return UserRules(known=self._file is not None, complete=self._left_out == 0)

    async def run(self) -> None:
        """Follow the file, or tell Redis what answers used, until cancelled."""
        while self._shared is not None:
            await asyncio.sleep(OWED_SECONDS)
            await self._shared.charge(self._writer.limits.owed())
        while self._file is not None:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
        await asyncio.Event().wait()

    def look(self) -> None:
        """Take over the users of a changed file."""
        users = self._file.changed() if self._file is not None else None
        if users is None:
            return
        self._users, before = users, self._left_out
        self._left_out = self._writer.limits.replace(users)
        log.info("event=users_loaded users=%d left_out=%d", len(users), self._left_out)
        if bool(before) != bool(self._left_out):
            self._changed()

    async def answer(self, question: Question) -> bytes:
        """What the kernel is told."""
        if self._shared is not None:
            said, user = await self._shared.take(question)
            self._note(question.user, user, said)
            return said
        user = self._users.get(question.user)
        self._writer.limits.put(question.user, user, replaces=True)
        return HERE if user is not None else NOBODY

    def _note(self, name: str, user: User | None, said: bytes) -> None:
        if self._shared is None or not name or (user is None and said != NOBODY):
            return
        key = self._writer.limits.put(name, user, replaces=True)
        if key is not None and user is not None:
            self._shared.remember(key, name)


def application(quotas: Quotas) -> web.Application:
    """What listens on the socket beside the segment."""

    async def ask(request: web.Request) -> web.Response:
        try:
            question = Question.parse(await request.read())
        except ValueError:
            return web.Response(status=400)
        return web.Response(body=await quotas.answer(question))

    made = web.Application()
    made.router.add_post("/ask", ask)
    return made

"""Limits that are counted in Redis, with all other gateways: one script a request.

The keys are AIBrix's (gateway 11): the record `aibrix-users/<name>`, counters `aibrix:<user>_RPM_CURRENT:<bin>`,
`aibrix:<user>_TPM_CURRENT:<bin>` and `aibrix_model:<model>_MODEL_RPS_CURRENT:<bin>`. Names keep their plain form where
that cannot be taken for another key. The script looks at all limits before it counts anything, so that a request that
is refused takes nothing. A store that is slow or away is left alone for a moment: the answer is "decide there".
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from csrc.binding import User
from csrc.limit_table import USERS_CAPACITY

if TYPE_CHECKING:
    from gateway.quotas import Question

AWAY_SECONDS = 0.5
"""How long a store that failed is not asked again."""

WINDOWS = 64
MINUTE = 60
DEGRADED = b"D"

SCRIPT = """
local function text(number) return string.format('%.0f', number) end
local function failed(value) return type(value) == 'table' and value.err ~= nil end
local function count(key)
  local value = redis.pcall('GET', key)
  if failed(value) then return nil end
  return tonumber(value or '0')
end
local function add(key, seconds)
  local value = redis.pcall('INCRBY', key, 1)
  if failed(value) then return nil end
  redis.pcall('EXPIRE', key, seconds)
  return value
end
local rps, rpm, tpm, recorded = tonumber(ARGV[3]), 0, 0, 0
if ARGV[1] == '1' then
  local raw = redis.pcall('GET', KEYS[1])
  if failed(raw) then return {'u'} end
  if not raw then return {'U'} end
  local fine, user = pcall(cjson.decode, raw)
  if not fine or type(user) ~= 'table' then return {'u'} end
  rpm, recorded = tonumber(user.rpm) or 0, tonumber(user.tpm) or 0
  local told = {text(rpm), text(recorded)}
  if rpm <= 0 then rpm = 100 end
  tpm = recorded > 0 and recorded or rpm * 1000
  if recorded > 0 and ARGV[2] == '1' then return {'N', '0', told[1], told[2]} end
  local requests, tokens = count(KEYS[2]), count(KEYS[3])
  if not requests then return {'r', '0', told[1], told[2]} end
  if requests >= rpm then return {'R', text(rpm), told[1], told[2]} end
  if not tokens then return {'t', '0', told[1], told[2]} end
  if tokens >= tpm then return {'T', text(tpm), told[1], told[2]} end
  rpm = told[1]
end
if rps > 0 then
  local requests = count(KEYS[4])
  if not requests then return {'s', '0', tostring(rpm), text(recorded)} end
  if requests >= rps then return {'S', text(rps), tostring(rpm), text(recorded)} end
  if not add(KEYS[4], 1) then return {'s', '0', tostring(rpm), text(recorded)} end
end
local taken = 0
if ARGV[1] == '1' then
  taken = add(KEYS[2], 60)
  if not taken then
    if rps > 0 then redis.pcall('DECRBY', KEYS[4], 1) end
    return {'i', '0', tostring(rpm), text(recorded)}
  end
end
return {'A', text(taken), tostring(rpm), text(recorded)}
"""

log = logging.getLogger("gateway.shared_limits")


def plain(name: str) -> str:
    """A name as a part of a key: itself where it is simple, else percent-encoded."""
    return quote(name, safe="-_.@/~")


def window(now: float, seconds: int) -> int:
    """The number by which a window's key is told from its neighbours'."""
    return int(now) // seconds % WINDOWS


LOST = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a store that is away looks like; RuntimeError is uvloop's word for a connection that closed under a write."""


class SharedLimits:
    """One Redis, that has to answer `within` a time. `fails_closed` says that what it cannot tell means no."""

    def __init__(self, client: Redis, *, within: timedelta, fails_closed: bool) -> None:
        self._client = client
        self._script = client.register_script(SCRIPT)
        self._seconds = within.total_seconds()
        self._away_until = 0.0
        self._names: OrderedDict[int, str] = OrderedDict()
        self.fails_closed = fails_closed

    @classmethod
    def connect(cls, host: str, port: int, password: str, *, within: timedelta, fails_closed: bool) -> SharedLimits:
        """Limits in the Redis at this address; a connection is made when one is needed."""
        client = Redis(
            host=host,
            port=port,
            password=password or None,
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(client, within=within, fails_closed=fails_closed)

    async def take(self, question: Question) -> tuple[bytes, User | None]:
        """What the kernel is told, and the user's record where it is known."""
        if time.monotonic() < self._away_until:
            return self._without_store(question), None
        try:
            async with asyncio.timeout(self._seconds):
                said = await self._run(question)
        except LOST as lost:
            self._away_until = time.monotonic() + AWAY_SECONDS
            log.warning("event=store_lost reason=%s", lost or type(lost).__name__)
            return self._without_store(question), None
        return self._heed(said)

    def _heed(self, said: list[bytes]) -> tuple[bytes, User | None]:
        letter = said[0]
        user = User(int(said[2]), int(said[3])) if len(said) > 3 else None
        if letter in b"uirts" and not self.fails_closed:
            return DEGRADED, user
        return b" ".join(said[:2]), user

    def _without_store(self, question: Question) -> bytes:
        if not self.fails_closed:
            return DEGRADED
        return b"r" if question.user else b"s"

    async def _run(self, question: Question) -> list[bytes]:
        now, name = time.time(), plain(question.user)
        model = plain(question.model) + (f"/{plain(question.profile)}" if question.profile else "")
        keys = [
            f"aibrix-users/{question.user}",
            f"aibrix:{name}_RPM_CURRENT:{window(now, MINUTE)}",
            f"aibrix:{name}_TPM_CURRENT:{window(now, MINUTE)}",
            f"aibrix_model:{model}_MODEL_RPS_CURRENT:{window(now, 1)}",
        ]
        given = [int(bool(question.user)), int(question.lacks_usage), question.rps]
        said: list[bytes] = await self._script(keys=keys, args=given)
        return said

    def remember(self, key: int, name: str) -> None:
        """Whose tokens `charge` means by this key."""
        self._names[key] = name
        self._names.move_to_end(key)
        while len(self._names) > 2 * USERS_CAPACITY:
            self._names.popitem(last=False)

    async def charge(self, owed: Mapping[int, int]) -> None:
        """Add tokens to the users' windows; what cannot be told now is dropped, as the window here has it."""
        charged = {self._names[key]: tokens for key, tokens in owed.items() if key in self._names}
        if not charged or time.monotonic() < self._away_until:
            return
        now = time.time()
        pipeline = self._client.pipeline(transaction=False)
        for name, tokens in charged.items():
            counter = f"aibrix:{plain(name)}_TPM_CURRENT:{window(now, MINUTE)}"
            pipeline.incrby(counter, tokens)
            pipeline.expire(counter, MINUTE)
        try:
            async with asyncio.timeout(1):
                await pipeline.execute(raise_on_error=False)
        except LOST as lost:
            log.warning("event=charge_lost users=%d reason=%s", len(charged), lost or type(lost).__name__)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

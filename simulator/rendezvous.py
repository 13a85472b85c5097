"""Where strict decodes ask for their prefills: a small HTTP service of the prefill engine, and its client.

    POST /claim {"key", "wait_seconds"}   200 once the prefill is there; 404 unknown, 409 claimed before

Either half may come first. A hand-over is kept for a while after it was claimed, so that a second claim is told apart
from an unknown one.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict

from simulator.errors import HandOverError
from simulator.hand_over import Claim
from simulator.wire import Request, Response, Stream

MOST_KEPT = 10_000
CONNECT_SECONDS = 2.0
JSON_HEADERS = {"content-type": "application/json"}


class Offers:
    """The hand-overs of one prefill engine, oldest first."""

    def __init__(self) -> None:
        self._offers: OrderedDict[str, _Offer] = OrderedDict()

    def offer(self, key: str) -> bool:
        """Say that a prefill is done; False when one of that key was offered before."""
        offer = self._entry(key)
        if offer.ready.is_set():
            return False
        offer.ready.set()
        return True

    async def claimed(self, key: str, limit_seconds: float) -> bool:
        """Wait until the decode has come for a prefill; False when the limit passes first."""
        return await _within(self._entry(key).claimed, limit_seconds)

    async def claim(self, key: str, wait_seconds: float) -> int:
        """Take a hand-over, waiting for it if need be; return the HTTP status that says how it went."""
        offer = self._offers.get(key)
        if offer is None and wait_seconds <= 0:
            return 404
        offer = self._entry(key)
        if offer.taken:
            return 409
        offer.taken = True
        if not await _within(offer.ready, wait_seconds):
            self._offers.pop(key, None)
            return 404
        offer.claimed.set()
        return 200

    async def serve(self, request: Request) -> Response | Stream:
        """Answer one HTTP request of a decode engine."""
        try:
            body = json.loads(request.body)
            key, wait = str(body["key"]), float(body.get("wait_seconds", 0))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Response(400, b"{}", JSON_HEADERS)
        return Response(await self.claim(key, wait), b"{}", JSON_HEADERS)

    def _entry(self, key: str) -> _Offer:
        offer = self._offers.get(key)
        if offer is None:
            offer = self._offers[key] = _Offer()
            if len(self._offers) > MOST_KEPT:
                self._offers.popitem(last=False)
        return offer


class _Offer:
    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.claimed = asyncio.Event()
        self.taken = False


async def claim_remote(claim: Claim, wait_seconds: float, param: str) -> None:
    """Take a hand-over from the engine that made it. Raises HandOverError."""
    try:
        status = await asyncio.wait_for(_ask(claim, wait_seconds), wait_seconds + CONNECT_SECONDS)
    except (OSError, ValueError, IndexError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise HandOverError(f"The prefill engine at {claim.host}:{claim.port} cannot be asked.", param) from error
    if status == 409:
        raise HandOverError("The prefill was handed over before and serves once only.", param)
    if status != 200 and wait_seconds > 0:
        raise HandOverError(f"The prefill did not come within {wait_seconds:g} s.", param, status=504)
    if status != 200:
        raise HandOverError("The prefill engine knows no such prefill.", param)


async def _ask(claim: Claim, wait_seconds: float) -> int:
    reader, writer = await asyncio.open_connection(claim.host, claim.port)
    try:
        body = json.dumps({"key": claim.key, "wait_seconds": wait_seconds}).encode()
        head = f"POST /claim HTTP/1.1\r\nhost: prefill\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = await reader.readline()
        return int(status.split()[1])
    finally:
        writer.close()


async def _within(event: asyncio.Event, limit_seconds: float) -> bool:
    if event.is_set():
        return True
    try:
        await asyncio.wait_for(event.wait(), limit_seconds)
    except TimeoutError:
        return False
    return True

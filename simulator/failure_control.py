"""Makes the failures of `failures` happen to generation requests."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from dataclasses import replace
from random import Random

from simulator.errors import InvalidParameterError, SyntheticError
from simulator.failures import CONNECTION_TYPES, LARGEST_STATUS, SMALLEST_STATUS, Failures, synthetic
from simulator.wire import Cut, Request, Response, Stream

logger = logging.getLogger("simulator")

RETURN_ERROR_HEADER = "x-sim-return-error"


class FailureControl:
    """Draws failures; the settings may be replaced at any time."""

    def __init__(self, failures: Failures, seed: int) -> None:
        self.settings = failures
        self._random = Random(f"failures {seed}")  # noqa: S311 - chance, not secrets
        self._requests = 0

    async def before(self) -> str | None:
        """Let one generation request wait, hang or fail; return the way in which its answer shall break, if any."""
        failures = self.settings
        self._count(failures)
        if failures.delay_seconds:
            await asyncio.sleep(failures.delay_seconds)
        if failures.hang:
            await asyncio.Event().wait()
        if not failures.rate or self._random.uniform(0, 100) >= failures.rate:
            return None
        kind = self._random.choice(failures.types)
        if kind not in CONNECTION_TYPES:
            raise synthetic(kind)
        if kind == "hang":
            await asyncio.Event().wait()
        if kind == "slow":
            await asyncio.sleep(failures.slow_seconds)
            return None
        return kind

    def transfer_fails(self) -> bool:
        return self._random.uniform(0, 100) < self.settings.transfer_rate

    def _count(self, failures: Failures) -> None:
        self._requests += 1
        if failures.crash_after is not None and self._requests > failures.crash_after:
            crash(failures.crash_code)


def crash(code: int) -> None:
    """End the process at once, as a failing engine does."""
    logger.error("event=crashed code=%d", code)
    logging.shutdown()
    os._exit(code)


def asked_error(request: Request) -> SyntheticError | None:
    """Return the error that a request's own header asks for. Raises InvalidParameterError for anything but a status."""
    text = request.headers.get(RETURN_ERROR_HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and SMALLEST_STATUS <= int(text[:9]) <= LARGEST_STATUS):
        raise InvalidParameterError(f"X-Sim-Return-Error takes a status from 400 to 599, got {text[:20]}.", "header")
    return SyntheticError(int(text), "synthetic_error", f"Status {text} was asked for.")


def broken(answer: Response | Stream, kind: str) -> Stream:
    """Return the answer as it arrives over a connection that is reset, or a stream that ends too early."""
    if isinstance(answer, Response):
        answer = Stream(_halves(answer.body), answer.status, answer.headers)
    return replace(answer, pieces=_cut(answer.pieces, kind), direct=None)


async def _halves(body: bytes) -> AsyncGenerator[bytes, None]:
    middle = len(body) // 2
    yield body[:middle]
    yield body[middle:]


async def _cut(pieces: AsyncGenerator[bytes, None], kind: str) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in pieces:
            yield piece
            if kind == "reset":
                raise Cut
            return
    finally:
        await pieces.aclose()

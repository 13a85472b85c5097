"""Asks a Prometheus server in turn, one question at a time, when one is configured.

A round of all questions takes twelve intervals, whatever the number of engines. A question that failed is asked again
in its next turn; while the server is away the pause doubles up to `LAST_PAUSE_SECONDS`, and what it said before is
forgotten after `LIFE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from itertools import cycle

import aiohttp
import orjson

from gateway.kube import KubeClient, KubeError
from gateway.prometheus import QUESTIONS, AnswerUnreadable, Prometheus, Question, Secret, Values, values_of

PATH = "/api/v1/query"
LIFE_SECONDS = 60.0
LAST_PAUSE_SECONDS = 5.0
SECRET_SECONDS = 10.0

log = logging.getLogger(__name__)


class QuestionFailed(Exception):  # noqa: N818 - named by what happened
    """The server gave no answer, or one that is none. Try later."""


class Querying:
    """What Prometheus said last. Use `run`."""

    def __init__(
        self, server: Prometheus, client: KubeClient | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, Values]] = {}
        self.failures = 0

    def answers(self) -> dict[str, Values]:
        """By name of the question what is known and not too old."""
        oldest = self._clock() - LIFE_SECONDS
        return {name: values for name, (at, values) in self._known.items() if at >= oldest}

    async def run(self) -> None:
        """Ask again and again until cancelled."""
        login = await credentials(self._server, self._client)
        headers = {"Authorization": login} if login else {}
        timeout = aiohttp.ClientTimeout(total=self._server.timeout.total_seconds())
        pause = self._server.interval.total_seconds()
        failed_before = False
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            for question in cycle(QUESTIONS):
                try:
                    self._known[question.name] = (self._clock(), await self._ask(session, question))
                except QuestionFailed as failed:
                    self.failures += 1
                    if not failed_before:
                        log.warning("event=question_failed metric=%s reason=%s", question.name, failed)
                    pause = min(pause * 2, max(LAST_PAUSE_SECONDS, self._server.interval.total_seconds()))
                    failed_before = True
                else:
                    pause, failed_before = self._server.interval.total_seconds(), False
                await asyncio.sleep(pause)

    async def _ask(self, session: aiohttp.ClientSession, question: Question) -> Values:
        query = {"query": question.expression(self._server.job)}
        try:
            async with session.post(f"{self._server.url}{PATH}", data=query) as got:
                if got.status != HTTPStatus.OK:
                    raise QuestionFailed(f"status {got.status}")
                return values_of(orjson.loads(await got.read()))
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError, AnswerUnreadable) as error:
            raise QuestionFailed(repr(error)) from error


async def credentials(server: Prometheus, client: KubeClient | None) -> str:
    """Header Authorization from the Secret or the variables; empty, with a warning, when the Secret tells nothing."""
    if server.secret is None:
        return aiohttp.encode_basic_auth(server.username, server.password) if server.username else ""
    where = f"{server.secret.namespace}/{server.secret.name}"
    if client is None:
        log.warning("event=credentials_missing secret=%s reason=there is no Kubernetes", where)
        return ""
    try:
        return await _from_secret(client, server.secret)
    except (KubeError, aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError) as error:
        log.warning("event=credentials_missing secret=%s reason=%r", where, error)
        return ""


async def _from_secret(client: KubeClient, secret: Secret) -> str:
    path = f"/api/v1/namespaces/{secret.namespace}/secrets/{secret.name}"
    document = await client.get(path, {}, SECRET_SECONDS)
    data = document.get("data") or {}
    return aiohttp.encode_basic_auth(_text(data[secret.username_key]), _text(data[secret.password_key]))


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not a text in base64") from error

"""The web server that the API server asks. It listens at once and answers once it has a certificate.

    POST /mutate-<group>-<version>-<kind>     POST /validate-<group>-<version>-<kind>

A rule that fails is our fault, never the object's: the answer is 500, and the webhook's failure policy decides. With
the policy Ignore nobody else hears of it, so every call is told to an observer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import orjson
from aiohttp import web

from crds.admission.review import RULES, Rules, review
from crds.admission.sidecar import DEFAULT_IMAGE

Json = dict[str, Any]

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""A review carries an object twice, and each may be 3 MiB."""
DRAIN_SECONDS: Final = 2.0


class Outcome(Enum):
    """How one call ended."""

    ALLOWED = "allowed"
    PATCHED = "patched"
    REFUSED = "refused"
    FAILED = "failed"
    MALFORMED = "malformed"


Observer = Callable[[str, Outcome, float], None]
"""Told after each call: the webhook's path without its slash, the outcome, the seconds it took."""


def _unobserved(_webhook: str, _outcome: Outcome, _seconds: float) -> None:
    pass


class AdmissionServer:
    """Serves every rule of `crds.admission.review`. `image` is the runtime sidecar's when an object names none."""

    def __init__(self, image: str = DEFAULT_IMAGE, observe: Observer = _unobserved) -> None:
        self._image = image
        self._observe = observe
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])
        self._shown = b""
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address is taken."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES)
        app.router.add_post("/{verb:mutate|validate}-{rules}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=self._tls, reuse_address=True).start()

    @property
    def port(self) -> int:
        """The port that is listened on: asked for as 0, the system chooses one."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the server is not started")
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def show(self, certificate: bytes, key: bytes) -> None:
        """Use this pair (PEM) from the next connection on."""
        if certificate != self._shown:
            await asyncio.to_thread(self._load, certificate, key)
            self._shown = certificate

    def _load(self, certificate: bytes, key: bytes) -> None:
        """The ssl module reads files only; ours is readable by us alone and gone at once."""
        descriptor, path = tempfile.mkstemp(prefix="admission-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key + certificate)
            self._tls.load_cert_chain(path)
        finally:
            os.unlink(path)  # noqa: PTH108 - the path came from mkstemp

    async def _answer(self, request: web.Request) -> web.Response:
        rules: Rules | None = RULES.get(request.match_info["rules"])
        if rules is None:
            raise web.HTTPNotFound
        body, start = await request.read(), time.perf_counter()
        outcome = Outcome.FAILED
        try:
            answer = self._judge(body, rules, request)
            outcome = _outcome(answer["response"])
            return web.Response(body=orjson.dumps(answer), content_type="application/json")
        except web.HTTPBadRequest:
            outcome = Outcome.MALFORMED
            raise
        finally:
            self._observe(request.path[1:], outcome, time.perf_counter() - start)

    def _judge(self, body: bytes, rules: Rules, request: web.Request) -> Json:
        """The AdmissionReview to answer with. Raises HTTPBadRequest, or HTTPInternalServerError when a rule fails."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise web.HTTPBadRequest(text="not JSON") from None
        try:
            return review(document, rules, mutating=request.match_info["verb"] == "mutate", image=self._image)
        except Exception:
            log.exception("rule-failed path=%s", request.path)
            raise web.HTTPInternalServerError(text="a rule failed") from None


def _outcome(response: Json) -> Outcome:
    if not response["allowed"]:
        return Outcome.REFUSED
    return Outcome.PATCHED if "patch" in response else Outcome.ALLOWED

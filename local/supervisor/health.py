"""Asks a part whether it is healthy: one small HTTP request, verified by TLS where the part has it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from local.supervisor.part import HttpCheck

LONGEST_REASON = 200


@dataclass(frozen=True)
class Healthy:
    """The part answered 200."""


@dataclass(frozen=True)
class Unhealthy:
    """The part did not answer, or not with 200."""

    reason: str


async def examine(check: HttpCheck, timeout_seconds: float = 2.0) -> Healthy | Unhealthy:
    """Never raises for what the part does: a refused connection and a bad certificate are reasons."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _get(check)
    except TimeoutError:
        return Unhealthy(f"no answer within {timeout_seconds:g} s")
    except ConnectionRefusedError:
        return Unhealthy("does not listen")
    except (OSError, ValueError) as error:
        return Unhealthy(str(error)[:LONGEST_REASON])


async def _get(check: HttpCheck) -> Healthy | Unhealthy:
    url = urlsplit(check.url)
    context = _tls(check) if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    try:
        writer.write(f"GET {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    status = head.split(" ", 2)[1] if head.startswith("HTTP/1.") else "no HTTP"
    if status == "200":
        return Healthy()
    return Unhealthy(f"answers {status}: {' '.join(body.split())}"[:LONGEST_REASON])


def _tls(check: HttpCheck) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=check.ca or None)
    if check.certificate:
        context.load_cert_chain(check.certificate, check.key)
    return context

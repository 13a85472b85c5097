"""Startup, readiness and liveness probes, and the HTTP calls of lifecycle hooks.

One small HTTP client serves all pods: a probe costs one connection and a few hundred microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from local.node.files import Json

# Runs a command in the container: (argv, timeout) -> (exit code, output).
Exec = Callable[[list[str], float], Awaitable[tuple[int, str]]]
ProbeKind = Literal["startup", "readiness", "liveness"]


class ProbeError(Exception):
    """The probe's answer was not a success; the text goes into the event."""


@dataclass(frozen=True)
class ProbeTarget:
    """Where a container is probed."""

    address: str
    ports: dict[str, int]  # by name
    exec: Exec

    def port(self, value: int | str) -> int:
        """A port by number or name."""
        if isinstance(value, int):
            return value
        if value in self.ports:
            return self.ports[value]
        if value.isdigit():
            return int(value)
        raise ProbeError(f"couldn't find port: {value}")


@dataclass(frozen=True)
class Timing:
    """A probe's schedule and thresholds with the API's defaults."""

    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Json) -> Timing:
        """Reads the fields of a probe."""
        return cls(
            initial_delay=probe.get("initialDelaySeconds") or 0,
            period=probe.get("periodSeconds") or 10,
            timeout=probe.get("timeoutSeconds") or 1,
            success_threshold=probe.get("successThreshold") or 1,
            failure_threshold=probe.get("failureThreshold") or 3,
        )


@dataclass(frozen=True)
class ProbeRun:
    """A probe of one container attempt, with what to do when its result changes."""

    kind: ProbeKind
    probe: Json
    target: ProbeTarget
    changed: Callable[[ProbeKind, bool], None]
    unhealthy: Callable[[ProbeKind, str], None]

    async def run(self, age: float, known: bool | None) -> None:
        """Probes until cancelled; `age` is how long the container runs, `known` the result so far.

        `changed` is called when a threshold is reached with another result than before. A startup probe ends with its
        first success, a liveness or startup probe with its failure: the container is then ended.
        """
        timing = Timing.of(self.probe)
        await asyncio.sleep(max(0.0, timing.initial_delay - age))
        result, streak, last = known, 0, None
        while True:
            outcome = await self._once(timing)
            streak = streak + 1 if outcome == last else 1
            last = outcome
            threshold = timing.success_threshold if outcome else timing.failure_threshold
            if outcome != result and streak >= threshold:
                result = outcome
                self.changed(self.kind, outcome)
                if self._is_over(outcome):
                    return
            await asyncio.sleep(timing.period)

    def _is_over(self, outcome: bool) -> bool:
        return self.kind == "startup" or (self.kind == "liveness" and not outcome)

    async def _once(self, timing: Timing) -> bool:
        try:
            async with asyncio.timeout(timing.timeout):
                await check(self.probe, self.target, timing.timeout)
        except TimeoutError:
            self.unhealthy(self.kind, "context deadline exceeded")
            return False
        except (ProbeError, OSError, asyncio.IncompleteReadError) as failure:
            self.unhealthy(self.kind, str(failure))
            return False
        return True


async def check(action: Json, target: ProbeTarget, timeout: float) -> None:
    """One probe or hook action; raises ProbeError, OSError or TimeoutError."""
    if "httpGet" in action:
        await http_get(action["httpGet"], target)
    elif "tcpSocket" in action:
        socket = action["tcpSocket"]
        _, writer = await asyncio.open_connection(socket.get("host") or target.address, target.port(socket["port"]))
        await _close(writer)
    elif "grpc" in action:
        await grpc_check(action["grpc"], target, timeout)
    elif "exec" in action:
        code, output = await target.exec(list(action["exec"]["command"]), timeout)
        if code:
            raise ProbeError(output or f"command exited with {code}")


async def http_get(action: Json, target: ProbeTarget) -> None:
    """GET; any status from 200 to 399 is a success."""
    host, port = action.get("host") or target.address, target.port(action["port"])
    secure = _unverified() if action.get("scheme") == "HTTPS" else None
    reader, writer = await asyncio.open_connection(host, port, ssl=secure)
    try:
        writer.write(_request(action, host, port))
        status_line = await reader.readline()
        status = _status(status_line)
    finally:
        await _close(writer)
    if not 200 <= status < 400:
        raise ProbeError(f"HTTP probe failed with statuscode: {status}")


def _request(action: Json, host: str, port: int) -> bytes:
    headers = {one["name"]: one["value"] for one in action.get("httpHeaders", ())}
    lowered = {name.lower() for name in headers}
    defaults = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers |= {name: value for name, value in defaults.items() if name.lower() not in lowered}
    path = action.get("path") or "/"
    path = path if path.startswith("/") else f"/{path}"
    lines = [f"GET {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _status(line: bytes) -> int:
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ProbeError("EOF" if not line else "malformed HTTP response")
    return int(words[1])


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


async def grpc_check(action: Json, target: ProbeTarget, timeout: float) -> None:
    """grpc.health.v1.Health/Check, whose two messages are small enough to write by hand."""
    import grpc

    service = (action.get("service") or "").encode()
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    async with grpc.aio.insecure_channel(f"{target.address}:{action['port']}") as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer: bytes = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise ProbeError(f"service unhealthy: {error.code().name}") from error
    if answer[:2] != b"\x08\x01":
        raise ProbeError("service unhealthy (responded with NOT_SERVING)")

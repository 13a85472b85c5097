"""Endpoints from a file instead of Kubernetes: `models: [{name, engine?, endpoints | rolesets}]`.

Names are resolved and each endpoint is asked for `/health`, so that a dead one leaves the choice; the file is read
again when it changes. A file that cannot be used ends the collector at its start and is ignored later on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from crds import labels
from gateway.topology import DEFAULT_ENGINE, MAX_PORT, Endpoint

NAMESPACE = "standalone"
NAME_LIMIT = 50
PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 2.0
FAILURES = 2
"""Probes in a row that must fail before an endpoint leaves the choice."""

ROLES = ("prefill", "decode")

log = logging.getLogger(__name__)


class EndpointsRefused(ValueError):  # noqa: N818 - named by what happened
    """The file says nothing that can be used; the text says why."""


@dataclass(frozen=True)
class Place:
    """One line of the file: an endpoint of a model, perhaps in a roleset."""

    model: str
    engine: str
    host: str
    port: int
    role: str = ""
    roleset: str = ""


def read(path: Path) -> list[Place]:
    """All endpoints of the file, in its order. Raises EndpointsRefused."""
    try:
        text = path.read_text()
    except OSError as error:
        raise EndpointsRefused(f"failed to read config file: {error}") from error
    try:
        document = yaml.safe_load(text)
        models: Sequence[Mapping[str, Any]] = (document or {}).get("models") or []
        return [place for model in models for place in _places_of(model)]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise EndpointsRefused(f"failed to parse config file: {error!r}") from error


def _places_of(model: Mapping[str, Any]) -> Iterator[Place]:
    name, engine = str(model["name"]), str(model.get("engine") or DEFAULT_ENGINE)
    if model.get("endpoints") and model.get("rolesets"):
        raise EndpointsRefused(f'model "{name}": endpoints and rolesets are mutually exclusive')
    for text in model.get("endpoints") or ():
        yield Place(name, engine, *_address(text, f'model "{name}": endpoint "{text}"'))
    for roleset in model.get("rolesets") or ():
        own = str(roleset.get("name") or "")
        if not own:
            raise EndpointsRefused(f'model "{name}": roleset name is required')
        for role in ROLES:
            for text in roleset.get(role) or ():
                where = _address(text, f'model "{name}": roleset "{own}": {role} "{text}"')
                yield Place(name, engine, *where, role, own)


def _address(text: str, prefix: str) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]` or `[v6]:port`; a bare v6 address is a host as well."""
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, None
    if port is None:
        return host, labels.DEFAULT_MODEL_PORT
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        raise EndpointsRefused(f'{prefix}: invalid port "{port}"')
    return host, int(port)


def sanitised(model: str) -> str:
    """The model's name as part of a pod's name."""
    return re.sub("[/_]", "-", model.lower()).strip("-")[:NAME_LIMIT].rstrip("-")


def endpoint_of(place: Place, index: int, ip: str) -> Endpoint:
    """The place as a pod would look; without an address it is listed but never chosen."""
    name = f"{sanitised(place.model)}-{place.host.replace('.', '-').replace(':', '-')}-{index}"
    own = {labels.MODEL_NAME: place.model, labels.MODEL_PORT: str(place.port), labels.MODEL_ENGINE: place.engine}
    if place.roleset:
        own |= {labels.ROLE_NAME: place.role, labels.ROLESET_NAME: place.roleset}
    return Endpoint(
        uid=f"{NAMESPACE}/{name}", namespace=NAMESPACE, name=name, model=place.model, ip=ip, ports=(place.port,),
        metrics_port=None, ready=bool(ip), engine=place.engine, role=place.role, roleset=place.roleset,
        role_replica_index="", labels=own,
    )  # fmt: skip


@dataclass
class StaticEndpoints:
    """The endpoints of a file, as a watch of pods shows them. `changed` is called after each change."""

    path: Path
    changed: Callable[[], None]
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    is_synced: bool = False
    _failures: dict[str, int] = field(default_factory=dict)
    _read_at: float = 0.0

    async def run(self) -> None:
        """Follow file and engines until cancelled. Raises EndpointsRefused when the file is unusable at the start."""
        await self._take(read(self.path))
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(PROBE_SECONDS)
                await self._reload()
                await self._probe_all(session)

    async def _reload(self) -> None:
        try:
            if self.path.stat().st_mtime == self._read_at:
                return
            await self._take(read(self.path))
        except (OSError, EndpointsRefused) as error:
            log.warning("event=endpoints_refused path=%s reason=%s", self.path, error)

    async def _take(self, places: Iterable[Place]) -> None:
        self._read_at = self.path.stat().st_mtime
        found = [endpoint_of(place, index, await _resolve(place.host)) for index, place in enumerate(places)]
        self.endpoints, self.is_synced = {each.uid: each for each in found}, True
        self._failures = {uid: count for uid, count in self._failures.items() if uid in self.endpoints}
        self._judge()
        log.info("event=endpoints_read path=%s endpoints=%d", self.path, len(found))
        self.changed()

    async def _probe_all(self, session: aiohttp.ClientSession) -> None:
        probed = [each for each in self.endpoints.values() if each.ip]
        alive = await asyncio.gather(*(_is_alive(session, each) for each in probed))
        for endpoint, good in zip(probed, alive, strict=True):
            self._failures[endpoint.uid] = 0 if good else self._failures.get(endpoint.uid, 0) + 1
        if self._judge():
            self.changed()

    def _judge(self) -> bool:
        before = dict(self.endpoints)
        for uid, each in before.items():
            self.endpoints[uid] = replace(each, ready=bool(each.ip) and self._failures.get(uid, 0) < FAILURES)
        return before != self.endpoints


async def _resolve(host: str) -> str:
    """An address of the host, or nothing: Envoy needs an address."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("event=host_unresolved host=%s reason=%s", host, error)
        return ""
    return str(found[0][4][0])


async def _is_alive(session: aiohttp.ClientSession, endpoint: Endpoint) -> bool:
    host = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    try:
        async with session.get(f"http://{host}:{endpoint.ports[0]}/health") as got:
            return got.status < HTTPStatus.INTERNAL_SERVER_ERROR
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False

"""Models that ModelClaims bring up on warm pods when they are needed (gateway-cache 3, gateway 4.5 and 10).

A claim's controller writes into an annotation of the pod on which port the model is, or why it is on none. A model that
no pod serves but a claim is bound to answers 503 with that reason; if it sleeps, the runtime of its pod is asked to
wake it, once however many requests come. The controller sees that it woke and writes its port.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice

import aiohttp

from crds.pool import BINDING_PREFIX, Binding, State, bindings
from gateway.topology import Endpoint, Json, answers_for_group, endpoint_for, endpoint_of, is_model_name

RUNTIME_PORT = 8080
WAKE_PATH = "/v1/runtime/models/wake"
WAKE_SECONDS = 120
LOOK_SECONDS = 0.1
HOLD_SECONDS = 5.0
"""After a wake until the next of the same: the controller looks every ten seconds."""
RETRY_SECONDS = 1.0
ANSWER_BYTES = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WarmPod:
    """A pod that claims are bound to: models that it serves, and why it does not serve others."""

    uid: str
    namespace: str
    name: str
    ip: str
    serves: tuple[Endpoint, ...]
    waits: Mapping[str, State] = field(hash=False)


@dataclass(frozen=True, slots=True)
class ModelPod:
    """A pod that has to do with models: by its own name for one, by claims, or both."""

    endpoint: Endpoint | None
    warm: WarmPod | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A model that no pod serves: what the claim's state is, and on which pod."""

    model: str
    state: State
    pod: WarmPod


def model_pod_of(pod: Json) -> ModelPod | None:
    """What the gateway keeps of a pod, or None for one that has nothing to do with models."""
    found = ModelPod(endpoint_of(pod), warm_pod_of(pod))
    return found if found.endpoint or found.warm else None


def warm_pod_of(pod: Json) -> WarmPod | None:
    """What claims bind to the pod, or None when nothing or when it does not answer for its group."""
    metadata: Json = pod["metadata"]
    found = _bindings(metadata)
    if not found or not answers_for_group(metadata.get("labels") or {}):
        return None
    ports: dict[str, set[int]] = {}
    for each in found:
        ports.setdefault(each.model, set()).update({each.port} - {0})
    endpoints = [replace(endpoint_for(pod, model), ports=tuple(sorted(own)), metrics_port=None, claimed=True)
                 for model, own in ports.items() if own]  # fmt: skip
    waits: dict[str, State] = {}
    for each in found:
        if not ports[each.model]:
            waits.setdefault(each.model, each.state)
    address = (pod.get("status") or {}).get("podIP") or ""
    return WarmPod(metadata["uid"], metadata["namespace"], metadata["name"], address, tuple(endpoints), waits)


def with_claims(endpoints: Iterable[Endpoint], pods: Iterable[WarmPod]) -> list[Endpoint]:
    """The endpoints, and those that claims made. What a claim says of a model on its pod stands over the label."""
    listed = list(pods)
    bound = {(pod.uid, each.model) for pod in listed for each in pod.serves}
    bound |= {(pod.uid, model) for pod in listed for model in pod.waits}
    found = [each for each in endpoints if (each.uid, each.model) not in bound]
    return found + [each for pod in listed for each in pod.serves]


def waiting_of(pods: Iterable[WarmPod], served: Iterable[str], most: int) -> dict[str, Waiting]:
    """The models that a claim is bound for and no pod serves; of several pods the first by namespace and name.

    With those that are served they are `most`; what is more is left out, so that it keeps no other from being served.
    """
    known, found = set(served), dict[str, Waiting]()
    for pod in sorted(pods, key=lambda each: f"{each.namespace}/{each.name}"):
        for model, state in pod.waits.items():
            if model not in known and model not in found:
                found[model] = Waiting(model, state, pod)
    room = max(0, most - len(known))
    if len(found) > room:
        log.warning("event=claims_left_out count=%d models=%d", len(found) - room, len(known))
    return dict(islice(found.items(), room))


def _bindings(metadata: Json) -> list[Binding]:
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key.startswith(BINDING_PREFIX)}
    found = [each for each in bindings(notes) if is_model_name(each.model)] if notes else []
    for claim in {key.removeprefix(BINDING_PREFIX) for key in notes} - {each.claim for each in found}:
        _warn(f"{metadata['namespace']}/{metadata['name']}", claim, notes[BINDING_PREFIX + claim][:500])
    return found


@lru_cache(maxsize=1024)
def _warn(pod: str, claim: str, text: str) -> None:
    """Once for each; what the cache forgets is said again."""
    log.warning("event=claim_ignored pod=%s claim=%s text=%r", pod, claim, text)


class Wakes:
    """Asks runtimes to wake what requests wanted.

    `take` says whether any came for this model since it was asked, `count` is told of each call whether it woke one.
    """

    def __init__(self, take: Callable[[str], bool], count: Callable[[bool], None]) -> None:
        self._take, self._count = take, count
        self._sleeping: list[Waiting] = []
        self._held: dict[tuple[str, str], float] = {}
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def follow(self, waiting: Iterable[Waiting]) -> None:
        """From here on these models wait; one that woke and sleeps again may be woken at once."""
        self._sleeping = [each for each in waiting if each.state is State.SLEEPING and each.pod.ip]
        known = {_key(each) for each in self._sleeping}
        self._held = {key: until for key, until in self._held.items() if key in known}

    async def run(self) -> None:
        """Look for wanted models until cancelled."""
        timeout = aiohttp.ClientTimeout(total=WAKE_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                while True:
                    await asyncio.sleep(LOOK_SECONDS)
                    self._look(session)
            finally:
                for task in self._running.values():
                    task.cancel()
                await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _look(self, session: aiohttp.ClientSession) -> None:
        for each in self._sleeping:
            key = _key(each)
            if not self._take(each.model) or key in self._running or self._held.get(key, 0) > time.monotonic():
                continue
            self._running[key] = asyncio.create_task(self._wake(session, each, key))

    async def _wake(self, session: aiohttp.ClientSession, each: Waiting, key: tuple[str, str]) -> None:
        try:
            woke = await _ask(session, each)
            self._count(woke)
            self._held[key] = time.monotonic() + (HOLD_SECONDS if woke else RETRY_SECONDS)
        finally:
            del self._running[key]


def _key(each: Waiting) -> tuple[str, str]:
    return each.pod.uid, each.model


def wake_url(ip: str) -> str:
    """Where the runtime of a pod is asked to wake a model."""
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{RUNTIME_PORT}{WAKE_PATH}"


async def _ask(session: aiohttp.ClientSession, each: Waiting) -> bool:
    """Have the pod's runtime wake the model; True when it says that it did."""
    pod = each.pod
    operation = f"gateway-wake/{pod.uid}/{each.model}/{uuid.uuid4()}"
    asked = {"model_name": each.model, "operation_id": operation}
    name = f"{pod.namespace}/{pod.name}"
    try:
        async with session.post(wake_url(pod.ip), json=asked, allow_redirects=False) as got:
            said = await got.content.read(ANSWER_BYTES)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        log.warning("event=wake_failed model=%s pod=%s operation=%s error=%r", each.model, name, operation, error)
        return False
    if 200 <= got.status < 300:
        log.info("event=woken model=%s pod=%s operation=%s", each.model, name, operation)
        return True
    log.warning("event=wake_failed model=%s pod=%s status=%d answer=%r", each.model, name, got.status, said)
    return False

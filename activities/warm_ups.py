"""`warm_up`: have pods generate their first token, and note the result on each of them.

A long step: it runs beside the loop, which sees the result by its annotation. Whatever goes wrong is a result as well;
a try that leaves none is taken as lost after its timeout.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
from temporalio import activity

from activities.errors import KubeError
from activities.kube import STRATEGIC_MERGE_PATCH, KubeClient
from activities.messages import WARM_UP, WarmUp
from activities.resources import PODS
from activities.steps import heartbeats
from activities.store import Cache
from crds import labels
from planning.objects import status_of
from planning.planner import Json
from planning.warm_up import asked_of, mark, request_of, timeout_of, warmth_of
from planning.wire import Target

log = logging.getLogger(__name__)
BODY_LIMIT = 200


class WarmUps:
    """The activity `warm_up` and what it works with."""

    def __init__(self, client: KubeClient, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    @activity.defn(name=WARM_UP)
    async def warm_up(self, order: WarmUp) -> str:
        """One line for people: what each pod answered."""
        owner = self._cache.stores[order.ref.kind].by_uid(order.ref.uid)
        asked = asked_of(owner, order.step.role, order.step.template_hash) if owner is not None else None
        if asked is None:
            return "the role has changed since"
        async with heartbeats():
            said = await asyncio.gather(*(self._one(order, *asked, target) for target in order.step.targets))
        return "; ".join(said)

    async def _one(self, order: WarmUp, warm_up: Json, model: str, target: Target) -> str:
        pod = self._cache.stores[PODS.key].by_uid(target.uid)
        if pod is None:
            return f"{target.name} is gone"
        began = time.monotonic()
        fault = await first_token(pod, warm_up, model)
        seconds = time.monotonic() - began
        tries = warmth_of(pod, order.step.template_hash, warm_up).tries + 1
        value = mark("failed" if fault else "done", order.step.template_hash, tries, datetime.now(UTC), fault)
        body = {"metadata": {"uid": target.uid, "annotations": {labels.WARM_UP: value}}}
        try:
            await self._client.patch(PODS, order.ref.namespace, target.name, body, STRATEGIC_MERGE_PATCH)
        except KubeError as error:
            log.info("warm-up-not-noted pod=%s error=%s", target.name, error)
        log.info("warm-up pod=%s seconds=%.2f fault=%r", target.name, seconds, fault)
        return f"{target.name}: {fault or f'first token after {seconds:.2f} s'}"


async def first_token(pod: Json, warm_up: Json, model: str) -> str:
    """Ask the engine once; what was wrong, empty when it generated."""
    address = status_of(pod).get("podIP")
    if not address:
        return "the pod has no address"
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{warm_up.get('port') or 8000}{warm_up.get('path') or '/v1/completions'}"
    timeout = aiohttp.ClientTimeout(total=timeout_of(warm_up).total_seconds())
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=request_of(warm_up, model)) as answer,
        ):
            text = await answer.text()
            if answer.status != 200:
                return f"{url} answers {answer.status}: {text[:BODY_LIMIT]}"
            return _fault_of(text, url)
    except TimeoutError:
        return f"{url} does not answer within {timeout.total:.0f} s"
    except (aiohttp.ClientError, OSError, UnicodeDecodeError) as error:
        return f"{url}: {type(error).__name__}: {error}"


def _fault_of(text: str, url: str) -> str:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return f"{url} answers no JSON: {text[:BODY_LIMIT]}"
    return "" if isinstance(found, dict) and found.get("choices") else f"{url} generated nothing: {text[:BODY_LIMIT]}"

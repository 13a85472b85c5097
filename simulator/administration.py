"""Control of a running engine: sleep and wake, reset of the prefix cache, failures, latency, and a crash."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from simulator.answers import arguments, json_response
from simulator.engine import SleepState
from simulator.errors import ApiError, InvalidParameterError
from simulator.failure_control import crash
from simulator.failures import FailuresError, parse_failures
from simulator.fields import integer, parse_body
from simulator.overrides import Overrides, OverridesError
from simulator.service import Service
from simulator.step_latency import RooflineLatency
from simulator.wire import Request, Response

SLEEP_STATES: Mapping[str, SleepState] = {"0": "awake", "1": "weights_offloaded", "2": "discard_all"}
CRASH_DELAY_SECONDS = 0.05
SMALLEST_FACTOR = 1e-6


async def sleep(service: Service, request: Request) -> Response:
    """Put the engine to sleep; running requests end as aborted, unless `mode=wait` lets them finish first."""
    asked = arguments(request)
    level, mode = asked.get("level", ["1"])[0], asked.get("mode", ["abort"])[0]
    if level not in SLEEP_STATES or mode not in {"abort", "wait", "keep"}:
        raise InvalidParameterError(f"level is 0, 1 or 2 and mode abort or wait, got {level} and {mode}.", "level")
    if mode == "wait":
        for engine in service.engines:
            await engine.idle()
    for engine in service.engines:
        engine.sleep(SLEEP_STATES[level])
    return Response(200)


async def wake_up(service: Service, request: Request) -> Response:
    """Wake the engine, which takes longer from a deeper sleep. With tags, only `kv_cache` lets it serve again."""
    tags = arguments(request).get("tags", [])
    if any(tag not in {"weights", "kv_cache"} for tag in tags):
        raise InvalidParameterError("tags are weights and kv_cache.", "tags")
    deep = service.engines[0].sleep_state == "discard_all"
    if service.engines[0].sleep_state != "awake":
        await asyncio.sleep(service.settings.wake_seconds * (2 if deep else 1))
    if not tags or "kv_cache" in tags:
        for engine in service.engines:
            engine.wake()
    return Response(200)


async def is_sleeping(service: Service, _request: Request) -> Response:
    return json_response({"is_sleeping": service.engines[0].sleep_state != "awake"})


async def reset_prefix_cache(service: Service, request: Request) -> Response:
    """Empty the prefix cache; without `reset_running_requests` that fails while sequences run."""
    preempt = arguments(request).get("reset_running_requests", ["false"])[0].lower() == "true"
    done = [engine.reset_prefix_cache(preempt=preempt) for engine in service.engines]
    return json_response({"success": all(done)})


async def flush_cache(service: Service, _request: Request) -> Response:
    """SGLang's name for it."""
    done = [engine.reset_prefix_cache(preempt=False) for engine in service.engines]
    return Response(200 if all(done) else 400, b"Cache flushed.\n" if all(done) else b"Requests are running.\n")


async def read_config(service: Service, _request: Request) -> Response:
    engine = service.settings.engine
    return json_response(
        {
            "latency": asdict(service.engines[0].latency),  # type: ignore[call-overload]
            "scale": asdict(service.engines[0].scale),
            "failures": asdict(service.failures.settings),
            "metrics": service.overrides.given,
            "limits": asdict(engine.limits),
        }
    )


async def patch_config(service: Service, request: Request) -> Response:
    """Change latency, scale, failures or pinned metrics, all that is given or nothing."""
    body = parse_body(request.body)
    unknown = body.keys() - {"latency", "scale", "failures", "metrics"}
    if unknown:
        raise InvalidParameterError(f"{min(unknown)} is unknown.", "config")
    sections = {name: _section(name, value) for name, value in body.items()}
    engine = service.engines[0]
    try:
        above_zero = SMALLEST_FACTOR if isinstance(engine.latency, RooflineLatency) else 0.0
        latency = _numbers(engine.latency, sections.get("latency", {}), least=above_zero)
        scale = _numbers(engine.scale, sections.get("scale", {}), least=SMALLEST_FACTOR)
        failures = parse_failures(service.failures.settings, sections.get("failures", {}))
        _check_metrics(sections.get("metrics", {}))
    except (FailuresError, OverridesError, ConfigError) as error:
        raise InvalidParameterError(str(error), "config") from error
    for one in service.engines:
        one.set_speed(latency, scale)
    service.failures.settings = failures
    service.overrides.update(sections.get("metrics", {}))
    return await read_config(service, request)


async def crash_now(_service: Service, request: Request) -> Response:
    """Answer, and end the process with the code in the body or the argument `code` (1)."""
    given = arguments(request).get("code", [""])[0]
    body = parse_body(request.body) if request.body.strip() else {}
    code = int(given) if given.isascii() and given.isdigit() else integer(body, "code")
    if code is not None and not 0 <= code <= 255:
        raise ApiError("code is 0 to 255", "code")
    asyncio.get_running_loop().call_later(CRASH_DELAY_SECONDS, crash, 1 if code is None else code)
    return json_response({"status": "crashing"})


class ConfigError(ValueError):
    """A section of the configuration has no usable value."""


def _check_metrics(values: Mapping[str, object]) -> None:
    if ignored := Overrides({}).update(values):
        raise OverridesError(f"{ignored[0]} is unknown")


def _section(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidParameterError(f"{name} must be an object.", "config")
    return value


def _numbers(current: Any, values: Mapping[str, object], least: float = 0.0) -> Any:
    """Return the dataclass with some of its numbers replaced. Raises ConfigError."""
    names = {field.name for field in fields(current)}
    for name, value in values.items():
        if name not in names or not isinstance(getattr(current, name), int | float):
            raise ConfigError(f"{name} is unknown, or no number that can be changed")
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e9:
            raise ConfigError(f"{name} must be a number from {least:g}")
        if isinstance(getattr(current, name), int) and not isinstance(value, int):
            raise ConfigError(f"{name} must be an integer")
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be finite")
    return replace(current, **values)

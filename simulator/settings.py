"""Everything that can be set, from flags and environment variables; a flag wins over its variable.

| flag | variable | default | meaning |
|---|---|---|---|
| --host | SIMULATOR_HOST | 0.0.0.0 | address to listen on |
| --port | SERVER_PORT | 8000 | port to listen on, 0 for any |
| --model | MODEL_NAME | llama2-7b | model, and its served name |
| --served-model-name | SIMULATOR_SERVED_MODEL_NAME | the model | served names, the first labels the metrics |
| --api-key | SIMULATOR_API_KEY | none | bearer token that guarded paths ask for |
| --seed | SIMULATOR_SEED | 0 | makes text, lengths and jitter reproducible |
| --max-num-seqs | SIMULATOR_MAX_NUM_SEQS | 256 | sequences that run at once |
| --max-waiting | SIMULATOR_MAX_WAITING | 1000 | sequences that may wait before 503 |
| --max-model-len | SIMULATOR_MAX_MODEL_LEN | 16384 | context length in tokens |
| --block-size | SIMULATOR_BLOCK_SIZE | 16 | tokens per KV block, 1 to 256 |
| --num-gpu-blocks | SIMULATOR_NUM_GPU_BLOCKS | 16384 | KV blocks |
| --linger-seconds | SIMULATOR_LINGER_SECONDS | 2 | after SIGTERM: still answers new requests for so long |
| --drain-seconds | SIMULATOR_DRAIN_SECONDS | 25 | after that: running requests may take so long |
| | POD_NAME, else HOSTNAME | the host's name | named in replies |
| | POD_NAMESPACE, DEPLOYMENT_NAME | default, llama2-7b | named in the log |
| | METRICS_OVERRIDES | {} | JSON object of pinned metric values |
| | MOCK_CAPACITY_AWARE_LATENCY | true | false: every request takes MOCK_REQUEST_DURATION_SECONDS (0.2) |
| | MOCK_SERVER_CAPACITY | 1 | sequences served without overload |
| | MOCK_BASE_LATENCY_SECONDS | 0.05 | least total latency |
| | MOCK_TTFT_BASE_SECONDS | 0.03 | base of the time to first token |
| | MOCK_PREFILL_SECONDS_PER_1K_TOKENS | 0.02 | |
| | MOCK_DECODE_SECONDS_PER_TOKEN | 0.002 | |
| | MOCK_OVERLOAD_PENALTY_SECONDS | 0.08 | per sequence above the capacity |
| | MOCK_LATENCY_JITTER_SECONDS | 0.01 | upper end of a uniform addition |

Underscores in flags count as dashes. Flags of the real engine that mean nothing here are ignored and logged.
"""

from __future__ import annotations

import argparse
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simulator.engine import EngineLimits
from simulator.latency import CapacityAwareLatency, FixedLatency, LatencyModel
from simulator.overrides import Overrides, OverridesError, parse_overrides

LARGEST_BLOCK_TOKENS = 256


class SettingsError(ValueError):
    """A setting has no usable value; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One engine process."""

    host: str
    port: int
    model: str
    served_names: tuple[str, ...]
    api_key: str | None
    pod: str
    namespace: str
    deployment: str
    seed: int
    limits: EngineLimits
    latency: LatencyModel
    overrides: Mapping[str, object]
    linger_seconds: float
    drain_seconds: float
    ignored_arguments: tuple[str, ...]


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises SettingsError; a malformed flag ends the process with argparse's message."""
    flags, ignored = _parser(environment).parse_known_args([_dashed(argument) for argument in arguments])
    return Settings(
        host=flags.host,
        port=flags.port,
        model=flags.model,
        served_names=tuple(flags.served_model_name) or (flags.model,),
        api_key=flags.api_key or None,
        pod=environment.get("POD_NAME") or environment.get("HOSTNAME") or socket.gethostname(),
        namespace=environment.get("POD_NAMESPACE", "default"),
        deployment=environment.get("DEPLOYMENT_NAME", "llama2-7b"),
        seed=flags.seed,
        limits=_limits(flags),
        latency=_latency(environment),
        overrides=_overrides(environment.get("METRICS_OVERRIDES") or "{}"),
        linger_seconds=flags.linger_seconds,
        drain_seconds=flags.drain_seconds,
        ignored_arguments=tuple(ignored),
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("simulator", description="A vLLM-like engine without a GPU.", allow_abbrev=False)

    def add(flag: str, variable: str, default: str, kind: Callable[[str], object], *more: str) -> None:
        parser.add_argument(flag, *more, type=kind, default=environment.get(variable) or default)

    add("--host", "SIMULATOR_HOST", "0.0.0.0", str)  # noqa: S104 - a pod's own network namespace
    add("--port", "SERVER_PORT", "8000", port_number)
    add("--model", "MODEL_NAME", "llama2-7b", str)
    add("--api-key", "SIMULATOR_API_KEY", "", str)
    add("--seed", "SIMULATOR_SEED", "0", int)
    add("--max-num-seqs", "SIMULATOR_MAX_NUM_SEQS", "256", positive_count)
    add("--max-waiting", "SIMULATOR_MAX_WAITING", "1000", count)
    add("--max-model-len", "SIMULATOR_MAX_MODEL_LEN", "16384", positive_count)
    add("--block-size", "SIMULATOR_BLOCK_SIZE", "16", positive_count)
    add("--num-gpu-blocks", "SIMULATOR_NUM_GPU_BLOCKS", "16384", positive_count, "--num-gpu-blocks-override")
    add("--linger-seconds", "SIMULATOR_LINGER_SECONDS", "2", seconds)
    add("--drain-seconds", "SIMULATOR_DRAIN_SECONDS", "25", seconds)
    names = (environment.get("SIMULATOR_SERVED_MODEL_NAME") or "").split()
    parser.add_argument("--served-model-name", nargs="+", default=names)
    return parser


def _limits(flags: argparse.Namespace) -> EngineLimits:
    limits = EngineLimits(
        max_num_seqs=flags.max_num_seqs,
        max_waiting=flags.max_waiting,
        block_tokens=flags.block_size,
        num_blocks=flags.num_gpu_blocks,
        max_model_tokens=flags.max_model_len,
    )
    if limits.block_tokens > LARGEST_BLOCK_TOKENS:
        raise SettingsError(f"--block-size: at most {LARGEST_BLOCK_TOKENS}")
    if limits.blocks(limits.max_model_tokens) > limits.num_blocks:
        raise SettingsError("--num-gpu-blocks: too few for one sequence of --max-model-len tokens")
    return limits


def _latency(environment: Mapping[str, str]) -> LatencyModel:
    def value(name: str, default: float) -> float:
        return _number(environment, name, default)

    capacity = int(value("MOCK_SERVER_CAPACITY", 1))
    if environment.get("MOCK_CAPACITY_AWARE_LATENCY", "true").lower() not in {"1", "true", "yes"}:
        return FixedLatency(
            capacity=capacity,
            first_token_seconds=value("MOCK_TTFT_BASE_SECONDS", 0.03),
            total_seconds=value("MOCK_REQUEST_DURATION_SECONDS", 0.2),
        )
    return CapacityAwareLatency(
        capacity=capacity,
        base_latency_seconds=value("MOCK_BASE_LATENCY_SECONDS", 0.05),
        first_token_base_seconds=value("MOCK_TTFT_BASE_SECONDS", 0.03),
        prefill_seconds_per_1k_tokens=value("MOCK_PREFILL_SECONDS_PER_1K_TOKENS", 0.02),
        decode_seconds_per_token=value("MOCK_DECODE_SECONDS_PER_TOKEN", 0.002),
        overload_penalty_seconds=value("MOCK_OVERLOAD_PENALTY_SECONDS", 0.08),
        jitter_seconds=value("MOCK_LATENCY_JITTER_SECONDS", 0.01),
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        return seconds(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from error


def _overrides(text: str) -> Mapping[str, object]:
    try:
        values = parse_overrides(text)
        Overrides(values)
    except OverridesError as error:
        raise SettingsError(f"METRICS_OVERRIDES: {error}") from error
    return values


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def port_number(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive_count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def seconds(text: str) -> float:
    """Return a finite, not negative number. Raises ValueError."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("must be a number of at least 0")
    return value

"""One engine process as frozen settings, made from the values of `options`."""

from __future__ import annotations

import json
import socket
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, get_args

from simulator.block_hash import BlockHasher, hash_function
from simulator.engine import EngineSettings, LatencyModel
from simulator.failures import Failures, FailuresError, parse_failures
from simulator.kv_publisher import KVEventSettings
from simulator.latency import ConstantLatency, FixedDuration, MockLatency, PerTokenLatency
from simulator.lora_slots import LoraLimits
from simulator.options import OPTIONS, parse
from simulator.overrides import Overrides, OverridesError, parse_overrides
from simulator.reply import TEXT_MODES, LengthHistogram, TextMode
from simulator.scheduler import EngineLimits
from simulator.step_latency import PolynomialLatency, RooflineLatency, read_table
from simulator.timeline import Scale

LARGEST_BLOCK_TOKENS = 256
MOST_RANKS = 8
LARGEST_PORT = 65535

Flavour: TypeAlias = Literal["vllm", "sglang", "trtllm", "xllm"]
Role: TypeAlias = Literal["both", "producer", "consumer"]

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting has no usable value; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How this engine hands prefills over or takes them."""

    connector: str = "shared"
    role: Role = "both"
    demanding: bool = True
    """A decode that does not say where its prefill is, is refused."""
    strict: bool = False
    """The prefill engine is asked whether it has what a decode claims; each hand-over serves once."""
    address: str = "127.0.0.1"
    port: int = 8200
    timeout_seconds: float = 300.0
    latency_seconds: float = 0.0
    gigabytes_per_second: float = 64.0
    kv_bytes_per_token: int = 131072

    def seconds(self, tokens: int) -> float:
        """Return how long the keys and values of `tokens` are on their way."""
        if not self.gigabytes_per_second:
            return 0.0
        return self.latency_seconds + tokens * self.kv_bytes_per_token / (self.gigabytes_per_second * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One engine process."""

    host: str
    port: int
    engines: int
    model: str
    served_names: tuple[str, ...]
    api_key: str | None
    flavour: Flavour
    task: str
    pod: str
    namespace: str
    deployment: str
    seed: int
    tokenizer: str
    text_mode: TextMode
    dataset: Path | None
    lengths: LengthHistogram
    embedding_size: int
    engine: EngineSettings
    ranks: int
    enable_lora: bool
    lora_modules: tuple[tuple[str, str], ...]
    lora_mock_replies: bool
    kv_events: KVEventSettings | None
    transfer: TransferSettings
    sleep_mode: bool
    dev_mode: bool
    wake_seconds: float
    failures: Failures
    overrides: Mapping[str, object]
    metric_aliases: bool
    replicas: int | None
    startup_seconds: float
    linger_seconds: float
    drain_seconds: float
    ignored_arguments: tuple[str, ...]

    @property
    def limits(self) -> EngineLimits:
        return self.engine.limits


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises SettingsError; a malformed flag ends the process with argparse's message."""
    flags, ignored = parse(arguments, environment)
    for option in OPTIONS:
        if not option.flag:
            setattr(flags, option.name, _variable(option.variable, option.default, option.kind, environment))
    return Settings(
        host=flags.host,
        port=flags.port,
        engines=_engines(flags),
        model=flags.model,
        served_names=tuple(flags.served_model_name) or (flags.model,),
        api_key=flags.api_key or None,
        flavour=_one_of("LLM_ENGINE", _flavour_name(flags.llm_engine), get_args(Flavour)),
        task=_one_of("--task", flags.task, ("any", "generate")),
        pod=environment.get("POD_NAME") or environment.get("HOSTNAME") or socket.gethostname(),
        namespace=flags.pod_namespace,
        deployment=flags.deployment_name,
        seed=flags.seed,
        tokenizer=flags.tokenizer,
        text_mode=_one_of("--text-mode", flags.text_mode, TEXT_MODES),
        dataset=Path(flags.dataset) if flags.dataset else None,
        lengths=_lengths(flags.output_lengths),
        embedding_size=flags.embedding_size,
        engine=_engine(flags),
        ranks=_at_most("--data-parallel-size", flags.data_parallel_size, MOST_RANKS),
        enable_lora=flags.enable_lora,
        lora_modules=tuple(_lora_module(text) for text in flags.lora_modules),
        lora_mock_replies=_one_of("--lora-replies", flags.lora_replies, ("recorded", "mock")) == "mock",
        kv_events=_kv_events(flags),
        transfer=_transfer(flags),
        sleep_mode=flags.enable_sleep_mode and flags.vllm_server_dev_mode,
        dev_mode=flags.vllm_server_dev_mode,
        wake_seconds=flags.wake_seconds / flags.speedup_ratio,
        failures=_failures(flags.failures),
        overrides=_overrides(flags.metrics_overrides),
        metric_aliases=flags.metric_aliases,
        replicas=flags.default_replicas if flags.mock_metrics_mode == "replicas" else None,
        startup_seconds=flags.startup_seconds,
        linger_seconds=flags.linger_seconds,
        drain_seconds=flags.drain_seconds,
        ignored_arguments=tuple(ignored),
    )


def _engines(flags: Namespace) -> int:
    """Return how many engines the process holds; what has a fixed port of its own can be there once only."""
    number = int(flags.engines)
    if number > 1 and (flags.enable_kv_cache_events or flags.kv_events_config or flags.transfer_check == "strict"):
        raise SettingsError("--engines: several cannot share the ports of KV events or of strict hand-overs")
    if number > 1 and flags.port and flags.port + number > LARGEST_PORT + 1:
        raise SettingsError("--engines: there are not so many ports from --port on")
    return number


def _engine(flags: Namespace) -> EngineSettings:
    limits = EngineLimits(
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        max_waiting=flags.max_waiting,
        block_tokens=_at_most("--block-size", flags.block_size, LARGEST_BLOCK_TOKENS),
        num_blocks=flags.num_gpu_blocks,
        max_model_tokens=flags.max_model_len,
        prefix_caching=flags.enable_prefix_caching,
    )
    if limits.blocks(limits.max_model_tokens) > limits.num_blocks:
        raise SettingsError("--num-gpu-blocks: too few for one sequence of --max-model-len tokens")
    algorithm = _said("--prefix-caching-hash-algo", lambda: hash_function(flags.prefix_caching_hash_algo))
    lora = LoraLimits(
        device_slots=flags.max_loras,
        host_slots=max(flags.max_cpu_loras, flags.max_loras),
        most_rank=flags.max_lora_rank,
        load_seconds=flags.lora_load_seconds,
        swap_seconds=flags.lora_swap_seconds,
    )
    return EngineSettings(
        limits=limits,
        latency=_latency(flags),
        scale=Scale(flags.speedup_ratio, flags.decode_speedup_ratio),
        lora=lora,
        hasher=BlockHasher(limits.block_tokens, algorithm, flags.pythonhashseed),
    )


def _latency(flags: Namespace) -> LatencyModel:
    makers: Mapping[str, Callable[[Namespace], LatencyModel]] = {
        "mock": _mock_latency,
        "constant": lambda flags: ConstantLatency(
            capacity=flags.max_num_seqs,
            first_token_seconds=flags.ttft_seconds,
            inter_token_seconds=flags.itl_seconds,
            first_token_deviation_seconds=flags.ttft_deviation,
            inter_token_deviation_seconds=flags.itl_deviation,
        ),
        "per-token": lambda flags: PerTokenLatency(
            capacity=flags.max_num_seqs,
            overhead_seconds=flags.prefill_overhead,
            prefill_seconds_per_token=flags.prefill_per_token,
            inter_token_seconds=flags.itl_seconds,
            load_factor=max(flags.load_factor, 1.0),
            max_num_seqs=flags.max_num_seqs,
        ),
        "polynomial": lambda flags: PolynomialLatency(capacity=flags.max_num_seqs),
        "table": lambda flags: _said(
            "--latency-table", lambda: read_table(Path(flags.latency_table), flags.max_num_seqs)
        ),
        "roofline": lambda flags: _said("--roofline", lambda: _roofline(flags)),
    }
    return makers[_one_of("--latency-model", flags.latency_model, tuple(makers))](flags)


def _mock_latency(flags: Namespace) -> LatencyModel:
    if not flags.mock_capacity_aware_latency:
        return FixedDuration(
            capacity=flags.mock_server_capacity,
            first_token_seconds=flags.mock_ttft_base_seconds,
            total_seconds=flags.mock_request_duration_seconds,
        )
    return MockLatency(
        capacity=flags.mock_server_capacity,
        base_latency_seconds=flags.mock_base_latency_seconds,
        first_token_base_seconds=flags.mock_ttft_base_seconds,
        prefill_seconds_per_1k_tokens=flags.mock_prefill_seconds_per_1k_tokens,
        decode_seconds_per_token=flags.mock_decode_seconds_per_token,
        overload_penalty_seconds=flags.mock_overload_penalty_seconds,
        jitter_seconds=flags.mock_latency_jitter_seconds,
    )


def _roofline(flags: Namespace) -> RooflineLatency:
    given = _object(flags.roofline)
    known = {field.name for field in fields(RooflineLatency)}
    for name, value in given.items():
        if name not in known or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{name} is unknown or its value is no number above 0")
    model = RooflineLatency(**{"capacity": flags.max_num_seqs, **given})
    if model.hidden // model.heads < 1:
        raise ValueError("more heads than hidden units")
    return model


def _kv_events(flags: Namespace) -> KVEventSettings | None:
    given = _said("--kv-events-config", lambda: _object(flags.kv_events_config or "{}"))
    enabled = given.get("enable_kv_cache_events", flags.enable_kv_cache_events)
    if not enabled or given.get("publisher", flags.kv_events_publisher) == "null":
        return None
    replay = given.get("replay_endpoint", None if flags.kv_events_config else flags.kv_events_replay_endpoint)
    return KVEventSettings(
        endpoint=str(given.get("endpoint", flags.kv_events_endpoint)),
        replay_endpoint=None if replay is None else str(replay),
        buffer_steps=int(str(given.get("buffer_steps", flags.kv_events_buffer_steps))),
        topic=str(given.get("topic", flags.kv_events_topic)),
        encoding=_one_of("--kv-events-encoding", flags.kv_events_encoding, ("map", "array")),
        hash_form=_one_of("--kv-events-hash-form", flags.kv_events_hash_form, ("int", "bytes")),
    )


def _transfer(flags: Namespace) -> TransferSettings:
    given = _said("--kv-transfer-config", lambda: _object(flags.kv_transfer_config or "{}"))
    roles: Mapping[str, Role] = {
        "": "both", "kv_both": "both", "null": "both",
        "kv_producer": "producer", "prefill": "producer", "kv_consumer": "consumer", "decode": "consumer",
    }  # fmt: skip
    role = flags.disaggregation_mode or str(given.get("kv_role") or "")
    sglang = _flavour_name(flags.llm_engine) == "sglang"
    check = _one_of("--transfer-check", flags.transfer_check, ("auto", "lenient", "strict"))
    configured = bool(given or flags.disaggregation_mode)
    return TransferSettings(
        connector=_connector(str(given.get("kv_connector") or "")),
        role=roles[_one_of("kv_role", role, tuple(roles))],
        demanding=check != "lenient",
        strict=check == "strict" or (check == "auto" and configured and flags.engines == 1),
        address=flags.pod_ip or "127.0.0.1",
        port=flags.disaggregation_bootstrap_port if sglang else flags.kv_transfer_port,
        timeout_seconds=flags.transfer_timeout,
        latency_seconds=flags.transfer_latency / flags.speedup_ratio,
        gigabytes_per_second=flags.transfer_gigabytes_per_second * flags.speedup_ratio,
        kv_bytes_per_token=flags.kv_bytes_per_token,
    )


def _connector(name: str) -> str:
    """Return which of AIBrix's connector types a vLLM connector class is."""
    lowered = name.lower()
    return next((kind for kind in ("nixl", "mooncake") if kind in lowered), "shared")


def _flavour_name(text: str) -> str:
    lowered = text.lower().replace("-", "").replace("_", "")
    return "trtllm" if lowered in {"tensorrtllm", "trtllm"} else lowered


def _lengths(text: str) -> LengthHistogram:
    if not text:
        return LengthHistogram()

    def read() -> LengthHistogram:
        pairs = [entry.partition(":") for entry in text.split(",")]
        lengths = tuple(int(length) for length, _, _ in pairs)
        weights = tuple(float(weight or 1) for _, _, weight in pairs)
        if min(lengths) < 1 or not all(0 < weight < float("inf") for weight in weights):
            raise ValueError("lengths are at least 1 and weights above 0")
        return LengthHistogram(lengths=lengths, weights=weights)

    return _said("--output-lengths", read)


def _lora_module(text: str) -> tuple[str, str]:
    if text.startswith("{"):
        given = _said("--lora-modules", lambda: _object(text))
        return str(given.get("name")), str(given.get("path"))
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise SettingsError(f"--lora-modules: {text!r} is not name=path")
    return name, path


def _failures(text: str) -> Failures:
    try:
        return parse_failures(Failures(), _said("--failures", lambda: _object(text)))
    except FailuresError as error:
        raise SettingsError(f"--failures: {error}") from error


def _overrides(text: str) -> Mapping[str, object]:
    try:
        values = parse_overrides(text)
        Overrides(values)
    except OverridesError as error:
        raise SettingsError(f"METRICS_OVERRIDES: {error}") from error
    return values


def _object(text: str) -> dict[str, object]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("must be a JSON object")
    return value


def _variable(name: str, default: str, kind: Callable[[str], object], environment: Mapping[str, str]) -> object:
    return _said(name, lambda: kind(environment.get(name) or default))


def _said(name: str, read: Callable[[], T]) -> T:
    """Return what `read` gives; its failure becomes a SettingsError that names the setting."""
    try:
        return read()
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SettingsError(f"{name}: {error}") from error


def _at_most(name: str, value: int, most: int) -> int:
    if value > most:
        raise SettingsError(f"{name}: at most {most}")
    return value


def _one_of(name: str, value: str, allowed: Sequence[T]) -> T:
    for candidate in allowed:
        if candidate == value:
            return candidate
    raise SettingsError(f"{name}: {value!r} is none of {', '.join(filter(None, map(str, allowed)))}")

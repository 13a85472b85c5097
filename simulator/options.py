"""Every setting with its flag, variable, default and meaning: the one table of this process.

A flag wins over its variable. Underscores in flags count as dashes. `python -m simulator --help` prints the table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


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


def positive(text: str) -> float:
    """Return a finite number above 0. Raises ValueError."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError("must be a number above 0")
    return value


def switch(text: str) -> bool:
    """Return whether the text says yes; an empty flag does."""
    if text.lower() not in {"", "0", "1", "true", "false", "yes", "no"}:
        raise ValueError("must be true or false")
    return text.lower() in {"", "1", "true", "yes"}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting; without a flag it comes from its variable only."""

    flag: str
    variable: str
    default: str
    kind: Callable[[str], object]
    meaning: str

    @property
    def name(self) -> str:
        """Return the name under which the parsed value is found."""
        return (self.flag.split(",")[0].lstrip("-") or self.variable.lower()).replace("-", "_")


OPTIONS = (
    # Process
    Option("--host", "SIMULATOR_HOST", "0.0.0.0", str, "address to listen on"),  # noqa: S104 - a pod's own network
    Option("--port", "SERVER_PORT", "8000", port_number, "port to listen on, 0 for any"),
    Option("--engines", "SIMULATOR_ENGINES", "1", positive_count, "engines in this process, each with the next port"),
    Option("--api-key", "SIMULATOR_API_KEY", "", str, "bearer token that guarded paths ask for"),
    Option("", "LLM_ENGINE", "vllm", str, "flavour: vllm, sglang, trtllm or xllm"),
    Option("--seed", "SIMULATOR_SEED", "0", int, "makes text, lengths and jitter reproducible"),
    Option("--startup-seconds", "SIMULATOR_STARTUP_SECONDS", "0", seconds, "/health and /ready are 503 for so long"),
    Option("--linger-seconds", "SIMULATOR_LINGER_SECONDS", "2", seconds, "after SIGTERM: still serves so long"),
    Option("--drain-seconds", "SIMULATOR_DRAIN_SECONDS", "25", seconds, "after that: running ones may take so long"),
    Option("", "POD_IP", "", str, "address that decodes use to reach this engine; else this host's"),
    Option("", "POD_NAMESPACE", "default", str, "named in the log"),
    Option("", "DEPLOYMENT_NAME", "llama2-7b", str, "named in the log"),
    # Model and text
    Option("--model", "MODEL_NAME", "llama2-7b", str, "model, and its served name"),
    Option("--tokenizer", "SIMULATOR_TOKENIZER", "packed", str, "packed, cl100k, or the path of a tokenizer.json"),
    Option("--text-mode", "SIMULATOR_TEXT_MODE", "canned", str, "canned, random, echo or dataset"),
    Option("--dataset", "SIMULATOR_DATASET", "", str, 'file of JSON lines {"prompt", "response"} for dataset'),
    Option("--output-lengths", "SIMULATOR_OUTPUT_LENGTHS", "", str, "weights of natural lengths, as 32:0.5,200:0.5"),
    Option("--embedding-size", "SIMULATOR_EMBEDDING_SIZE", "0", count, "0: 1536, or 3072 for a model called large"),
    Option("--task", "SIMULATOR_TASK", "any", str, "generate: no embeddings, rerank, audio, image or video paths"),
    # Engine
    Option("--max-num-seqs", "SIMULATOR_MAX_NUM_SEQS", "256", positive_count, "sequences that run at once"),
    Option(
        "--max-num-batched-tokens", "SIMULATOR_MAX_NUM_BATCHED_TOKENS", "8192", positive_count, "token budget of a step"
    ),
    Option("--max-waiting,--max-num-queued-reqs", "SIMULATOR_MAX_WAITING", "1000", count, "may wait before 503"),
    Option("--max-model-len", "SIMULATOR_MAX_MODEL_LEN", "16384", positive_count, "context length in tokens"),
    Option("--block-size", "SIMULATOR_BLOCK_SIZE", "16", positive_count, "tokens per KV block, 1 to 256"),
    Option(
        "--num-gpu-blocks,--num-gpu-blocks-override", "SIMULATOR_NUM_GPU_BLOCKS", "16384", positive_count, "KV blocks"
    ),
    Option("--enable-prefix-caching", "SIMULATOR_PREFIX_CACHING", "true", switch, "equal prompt starts share blocks"),
    Option("--prefix-caching-hash-algo", "SIMULATOR_BLOCK_HASH", "sha256", str, "sha256, xxhash or fnv"),
    Option("", "PYTHONHASHSEED", "0", str, "seed of the block hashes"),
    Option("--data-parallel-size", "SIMULATOR_DATA_PARALLEL_SIZE", "1", positive_count, "engines in one, 1 to 8"),
    # Latency
    Option(
        "--latency-model", "SIMULATOR_LATENCY_MODEL", "mock", str,
        "mock, constant, per-token, polynomial, table or roofline",
    ),
    Option("--speedup-ratio", "SIMULATOR_SPEEDUP", "1", positive, "divides every simulated time"),
    Option("--decode-speedup-ratio", "SIMULATOR_DECODE_SPEEDUP", "1", positive, "divides decode times once more"),
    Option("", "MOCK_CAPACITY_AWARE_LATENCY", "true", switch, "false: all take MOCK_REQUEST_DURATION_SECONDS"),
    Option("", "MOCK_SERVER_CAPACITY", "1", count, "sequences served without overload"),
    Option("", "MOCK_BASE_LATENCY_SECONDS", "0.05", seconds, "mock: least total latency"),
    Option("", "MOCK_TTFT_BASE_SECONDS", "0.03", seconds, "mock: base of the time to first token"),
    Option("", "MOCK_PREFILL_SECONDS_PER_1K_TOKENS", "0.02", seconds, "mock: per thousand prompt tokens"),
    Option("", "MOCK_DECODE_SECONDS_PER_TOKEN", "0.002", seconds, "mock: per output token"),
    Option("", "MOCK_OVERLOAD_PENALTY_SECONDS", "0.08", seconds, "mock: per sequence above the capacity"),
    Option("", "MOCK_LATENCY_JITTER_SECONDS", "0.01", seconds, "mock: upper end of a uniform addition"),
    Option("", "MOCK_REQUEST_DURATION_SECONDS", "0.2", seconds, "mock without capacity awareness: total latency"),
    Option("--ttft-seconds", "SIMULATOR_TTFT_SECONDS", "0", seconds, "constant: time to first token"),
    Option("--ttft-deviation", "SIMULATOR_TTFT_DEVIATION", "0", seconds, "constant: its standard deviation"),
    Option("--itl-seconds", "SIMULATOR_ITL_SECONDS", "0.012", seconds, "constant, per-token: time between tokens"),
    Option("--itl-deviation", "SIMULATOR_ITL_DEVIATION", "0", seconds, "constant: its standard deviation"),
    Option("--prefill-overhead", "SIMULATOR_PREFILL_OVERHEAD", "0.03", seconds, "per-token: of each prefill"),
    Option("--prefill-per-token", "SIMULATOR_PREFILL_PER_TOKEN", "0.00025", seconds, "per-token: per uncached token"),
    Option("--load-factor", "SIMULATOR_LOAD_FACTOR", "1", positive, "per-token: slowdown with all slots taken, from 1"),
    Option("--latency-table", "SIMULATOR_LATENCY_TABLE", "", str, "table: file of measured times"),
    Option(
        "--roofline", "SIMULATOR_ROOFLINE", "{}", str,
        "roofline: JSON of parameters, layers, hidden, heads, kv_heads, type_bytes, device_tflops, "
        "device_gigabytes_per_second, efficiency",
    ),
    # Adapters
    Option("--enable-lora", "SIMULATOR_ENABLE_LORA", "true", switch, "adapters can be loaded at run time"),
    Option("--max-loras", "SIMULATOR_MAX_LORAS", "8", positive_count, "adapters that run at once"),
    Option("--max-cpu-loras", "SIMULATOR_MAX_CPU_LORAS", "0", count, "adapters in host memory, 0: as many as run"),
    Option("--max-lora-rank", "SIMULATOR_MAX_LORA_RANK", "64", positive_count, "largest rank"),
    Option("--lora-load-seconds", "SIMULATOR_LORA_LOAD_SECONDS", "0", seconds, "from disk to host memory"),
    Option("--lora-swap-seconds", "SIMULATOR_LORA_SWAP_SECONDS", "0", seconds, "from host memory to the device"),
    Option("--lora-replies", "SIMULATOR_LORA_REPLIES", "recorded", str, "recorded, or mock: as AIBrix's mock"),
    # KV events
    Option("--enable-kv-cache-events", "SIMULATOR_KV_EVENTS", "false", switch, "publish KV events"),
    Option("--kv-events-publisher", "SIMULATOR_KV_EVENTS_PUBLISHER", "zmq", str, "zmq, or null: none"),
    Option("--kv-events-endpoint", "SIMULATOR_KV_EVENTS_ENDPOINT", "tcp://*:5557", str, "of the PUB socket"),
    Option("--kv-events-replay-endpoint", "SIMULATOR_KV_EVENTS_REPLAY", "tcp://*:5558", str, "of the ROUTER socket"),
    Option("--kv-events-buffer-steps", "SIMULATOR_KV_EVENTS_BUFFER", "10000", positive_count, "batches for replay"),
    Option("--kv-events-topic", "SIMULATOR_KV_EVENTS_TOPIC", "", str, "first frame of each message"),
    Option("--kv-events-encoding", "SIMULATOR_KV_EVENTS_ENCODING", "map", str, "map, or array as older engines"),
    Option("--kv-events-hash-form", "SIMULATOR_KV_EVENTS_HASH_FORM", "int", str, "int or bytes"),
    Option("--kv-events-config", "SIMULATOR_KV_EVENTS_CONFIG", "", str, "the same as one JSON, as vLLM takes it"),
    # Prefill and decode
    Option("--kv-transfer-config", "SIMULATOR_KV_TRANSFER_CONFIG", "", str, "JSON with kv_connector and kv_role"),
    Option("--disaggregation-mode", "SIMULATOR_DISAGGREGATION_MODE", "", str, "SGLang: prefill or decode"),
    Option(
        "--disaggregation-bootstrap-port", "SIMULATOR_BOOTSTRAP_PORT", "8998", port_number, "SGLang: where rooms meet"
    ),
    Option("--kv-transfer-port", "VLLM_NIXL_SIDE_CHANNEL_PORT", "8200", port_number, "where decodes claim prefills"),
    Option("--transfer-check", "SIMULATOR_TRANSFER_CHECK", "auto", str, "auto, lenient or strict hand-overs"),
    Option("--transfer-timeout", "SIMULATOR_TRANSFER_TIMEOUT", "300", seconds, "wait for the other half of a pair"),
    Option("--transfer-latency", "SIMULATOR_TRANSFER_LATENCY", "0", seconds, "of each KV transfer"),
    Option("--transfer-gigabytes-per-second", "SIMULATOR_TRANSFER_BANDWIDTH", "64", seconds, "0: takes no time"),
    Option("--kv-bytes-per-token", "SIMULATOR_KV_BYTES_PER_TOKEN", "131072", count, "size of one token's KV"),
    # Control
    Option("--enable-sleep-mode", "SIMULATOR_SLEEP_MODE", "false", switch, "with the next: /sleep and its kin exist"),
    Option("", "VLLM_SERVER_DEV_MODE", "false", switch, "also opens /reset_prefix_cache"),
    Option("--wake-seconds", "SIMULATOR_WAKE_SECONDS", "0", seconds, "to wake from level 1; twice that from level 2"),
    Option("--failures", "SIMULATOR_FAILURES", "{}", str, "JSON of failure control, as POST /admin/config takes it"),
    Option("", "METRICS_OVERRIDES", "{}", str, "JSON object of pinned metric values"),
    Option("--metric-aliases", "SIMULATOR_METRIC_ALIASES", "false", switch, "also the names that AIBrix asks for"),
    Option("", "MOCK_METRICS_MODE", "", str, "replicas: totals are divided by DEFAULT_REPLICAS"),
    Option("", "DEFAULT_REPLICAS", "1", positive_count, "replicas for that"),
)  # fmt: skip


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the values by name and the arguments that mean nothing here; ends the process on a malformed one."""
    parser = argparse.ArgumentParser("simulator", description="A vLLM-like engine without a GPU.", allow_abbrev=False)
    for option in (option for option in OPTIONS if option.flag):
        parser.add_argument(
            *option.flag.split(","),
            dest=option.name,
            type=option.kind,
            default=environment.get(option.variable) or option.default,
            help=option.meaning,
            nargs="?" if option.kind is switch else None,
            const="true" if option.kind is switch else None,
        )
    names = (environment.get("SIMULATOR_SERVED_MODEL_NAME") or "").split()
    parser.add_argument(
        "--served-model-name", nargs="+", default=names, help="served names, the first labels the metrics"
    )
    parser.add_argument("--lora-modules", nargs="*", default=[], help="adapters loaded at start, as name=path")
    return parser.parse_known_args([_dashed(argument) for argument in arguments])


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value

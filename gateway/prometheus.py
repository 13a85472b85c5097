"""What is asked of a Prometheus server when one is configured, and what its answers mean. Nothing is asked here.

One question is about all engines at once, told apart by `instance` (address of the metrics page) and, where the value
is one of a model, by `model_name`. Names and windows are AIBrix's; where an engine has renamed a metric, both are asked
for, and averages divide a sum by its count.

| variable | default | what it sets |
|---|---|---|
| PROMETHEUS_ENDPOINT | none | URL of the server; without it there are no questions |
| AIBRIX_PROMETHEUS_QUERY_INTERVAL_MS | 200 | between two questions, of which there are twelve |
| AIBRIX_PROMETHEUS_QUERY_TIMEOUT_MS | 2000 | for one answer |
| BRIXFLOW_PROMETHEUS_JOB | pods | job that engines are scraped under |
| PROMETHEUS_BASIC_AUTH_SECRET_NAME | none | Secret with the credentials, read once |
| PROMETHEUS_BASIC_AUTH_SECRET_NAMESPACE | aibrix-system | where it is |
| PROMETHEUS_BASIC_AUTH_USERNAME_KEY, `…_PASSWORD_KEY` | username, password | its keys |
| PROMETHEUS_BASIC_AUTH_USERNAME, `…_PASSWORD` | none | the credentials, when there is no Secret |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import fmean
from typing import Any

from gateway.topology import Endpoint, targets_of

INSTANCE, MODEL = "instance", "model_name"
LEAST_DRAIN_RATE = 0.01
FIRST_TOKEN = ("vllm:time_to_first_token_seconds",)
TOKEN = ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds")
Json = Mapping[str, Any]
Values = Mapping[tuple[str, str], float]
"""By instance and model; the model is empty where a value is one of the whole engine."""


@dataclass(frozen=True)
class Secret:
    """Where credentials lie."""

    namespace: str
    name: str
    username_key: str
    password_key: str


@dataclass(frozen=True)
class Prometheus:
    """A server that is asked."""

    url: str
    job: str = "pods"
    interval: timedelta = timedelta(milliseconds=200)
    timeout: timedelta = timedelta(milliseconds=2000)
    username: str = ""
    password: str = field(default="", repr=False)
    secret: Secret | None = None

    @classmethod
    def from_environment(cls, given: Mapping[str, str]) -> Prometheus | None:
        """None when no server is configured."""
        url = given.get("PROMETHEUS_ENDPOINT", "").strip().rstrip("/")
        if not url:
            return None
        return cls(
            url=url if "://" in url else f"http://{url}",
            job=given.get("BRIXFLOW_PROMETHEUS_JOB", "").strip() or cls.job,
            interval=_milliseconds(given, "AIBRIX_PROMETHEUS_QUERY_INTERVAL_MS", cls.interval),
            timeout=_milliseconds(given, "AIBRIX_PROMETHEUS_QUERY_TIMEOUT_MS", cls.timeout),
            username=given.get("PROMETHEUS_BASIC_AUTH_USERNAME", "").strip(),
            password=given.get("PROMETHEUS_BASIC_AUTH_PASSWORD", "").strip(),
            secret=_secret(given),
        )


def _milliseconds(given: Mapping[str, str], variable: str, default: timedelta) -> timedelta:
    text = given.get(variable, "")
    return timedelta(milliseconds=int(text)) if text.isdecimal() and int(text) else default


def _secret(given: Mapping[str, str]) -> Secret | None:
    own = {
        what: given.get(f"PROMETHEUS_BASIC_AUTH_{what}", "").strip()
        for what in ("SECRET_NAME", "SECRET_NAMESPACE", "USERNAME_KEY", "PASSWORD_KEY")
    }
    if not own["SECRET_NAME"]:
        return None
    return Secret(
        own["SECRET_NAMESPACE"] or "aibrix-system",
        own["SECRET_NAME"],
        own["USERNAME_KEY"] or "username",
        own["PASSWORD_KEY"] or "password",
    )


@dataclass(frozen=True)
class Question:
    """A metric that Prometheus works out: `$by` stands for the labels that tell engines apart, `$job` for the job."""

    name: str
    what: str
    alternatives: tuple[str, ...]
    of_model: bool = False
    is_rate: bool = False
    """Rates of the engines in one pod are added up, all else is averaged."""

    def expression(self, job: str) -> str:
        """The PromQL text."""
        by = f"{INSTANCE}, {MODEL}" if self.of_model else INSTANCE
        quoted = job.replace("\\", "\\\\").replace('"', '\\"')
        filled = (each.replace("$by", by).replace("$job", f'job="{quoted}"') for each in self.alternatives)
        return " or ".join(filled)


def _quantile(*families: str) -> tuple[str, ...]:
    return tuple(f"histogram_quantile(0.95, sum by ($by, le) (rate({each}_bucket{{$job}}[5m])))" for each in families)


def _mean(window: str, *families: str) -> tuple[str, ...]:
    def whole(family: str, part: str) -> str:
        return f"sum by ($by) (increase({family}_{part}{{$job}}[{window}]))"

    return tuple(f"({whole(each, 'sum')} / {whole(each, 'count')})" for each in families)


def _per_minute(*counters: str) -> tuple[str, ...]:
    return tuple(f"(sum by ($by) (increase({each}{{$job}}[5m])) / 5)" for each in counters)


def _drain(*counters: str) -> tuple[str, ...]:
    return tuple(f"clamp_min(sum by ($by) (rate({each}{{$job}}[1m])), {LEAST_DRAIN_RATE})" for each in counters)


FINISHED = ("vllm:request_success_total", "sglang:num_requests_total")
QUESTIONS = (
    Question("drain_rate_1m", "Requests finished a second.", _drain(*FINISHED), of_model=True, is_rate=True),
    Question("p95_ttft_5m", "95 of 100 first tokens came within.", _quantile(*FIRST_TOKEN), of_model=True),
    Question("p95_ttft_5m_pod", "The same, over all models.", _quantile(*FIRST_TOKEN)),
    Question("avg_ttft_5m_pod", "Mean time to the first token.", _mean("5m", *FIRST_TOKEN)),
    Question("p95_tpot_5m_pod", "95 of 100 further tokens came within.", _quantile(*TOKEN)),
    Question("avg_tpot_pod_5m", "Mean time of a further token.", _mean("5m", *TOKEN)),
    Question(
        "avg_prompt_toks_per_req", "Mean prompt of a day.", _mean("1d", "vllm:request_prompt_tokens"), of_model=True
    ),
    Question(
        "avg_generation_toks_per_req",
        "Mean generation of a day.",
        _mean("1d", "vllm:request_generation_tokens"),
        of_model=True,
    ),
    Question("avg_e2e_latency_pod", "Mean whole time.", _mean("5m", "vllm:e2e_request_latency_seconds")),
    Question("avg_requests_per_min_pod", "Requests finished a minute.", _per_minute(*FINISHED), is_rate=True),
    Question(
        "avg_prompt_throughput_toks_per_min_pod",
        "Prompt tokens a minute.",
        _per_minute("vllm:prompt_tokens_total"),
        is_rate=True,
    ),
    Question(
        "avg_generation_throughput_toks_per_min_pod",
        "Tokens made a minute.",
        _per_minute("vllm:generation_tokens_total"),
        is_rate=True,
    ),
)


class AnswerUnreadable(Exception):  # noqa: N818 - named by what happened
    """No vector of Prometheus' query API. Ask again later."""


def values_of(document: object) -> dict[tuple[str, str], float]:
    """The numbers of an answer; what is no number (0/0) is left out. Raises AnswerUnreadable."""
    try:
        return dict(_samples(document))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnswerUnreadable(repr(error)) from error


def _samples(document: Any) -> Iterable[tuple[tuple[str, str], float]]:
    if document["status"] != "success" or document["data"]["resultType"] != "vector":
        raise ValueError(document.get("error") or "no vector")
    for sample in document["data"]["result"]:
        labels, value = sample["metric"], float(sample["value"][1])
        if INSTANCE in labels and math.isfinite(value):
            yield (str(labels[INSTANCE]), str(labels.get(MODEL, ""))), value


def of_endpoint(question: Question, values: Values, endpoint: Endpoint) -> float | None:
    """What an answer says of a pod; None when it says nothing."""
    found = [
        value
        for target in targets_of((endpoint,))
        if (value := _of_instance(values, instance_of(target.host, target.port), endpoint.model)) is not None
    ]
    if not found:
        return None
    return sum(found) if question.is_rate else fmean(found)


def instance_of(host: str, port: int) -> str:
    """The label that Prometheus gives a page at this address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _of_instance(values: Values, instance: str, model: str) -> float | None:
    """The value of the model, or that of the one name by which the engine calls all it has."""
    if (instance, model) in values:
        return values[instance, model]
    others = [value for (where, _), value in values.items() if where == instance]
    return others[0] if len(others) == 1 else None

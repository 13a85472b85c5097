"""The gateway's Prometheus page: counters of all ext_proc processes, folded by the kernel, with AIBrix's names.

The kernel keeps what dead processes counted, so no counter falls when a process or the collector goes. Label sets are
fixed here, whatever comes first. Requests of no known model carry the model `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from csrc.binding import ModelTotals, Outcome, Totals, Users
from gateway import times
from gateway.prometheus import QUESTIONS, of_endpoint
from gateway.querying import Querying
from gateway.topology import Endpoint

UNKNOWN_MODEL = "unknown"
SUCCESS = "gateway_request_success"
HEADERS_FAIL = "gateway_req_headers_fail"
UNAUTHORIZED = 401
FAILURES = {
    Outcome.REJECTED: "gateway_req_body_fail",
    Outcome.UPSTREAM_ERROR: "gateway_rsp_headers_fail",
    Outcome.CLIENT_CANCELLED: "client_cancelled_eof",
    Outcome.SHUTDOWN: "aibrix_gateway_server_shutdown",
}
ENDING_LABELS = ("gateway_pod", "model", "pod_name", "status", "status_code")
REPLICA_LABELS = (
    "engine_type", "gateway_pod", "model", "model_name", "namespace", "pod", "role", "role_replica_index", "roleset",
)  # fmt: skip
POD_LABELS = ("engine_type", "gateway_pod", "model", "namespace", "pod", "role", "role_replica_index", "roleset")
SUMMED = {
    "running": "num_requests_running",
    "waiting": "num_requests_waiting",
    "remote": "brixflow_pod_requests_of_others",
    "prompt_rate": "avg_prompt_throughput_toks_per_s",
    "generation_rate": "avg_generation_throughput_toks_per_s",
}
AVERAGED = {
    "kv_cache": "kv_cache_usage_perc",
    "gpu_cache": "gpu_cache_usage_perc",
    "cpu_cache": "cpu_cache_usage_perc",
    "utilization": "engine_utilization",
    "busy": "gpu_busy_time_ratio",
    "prompt_length": "avg_prompt_toks_per_req",
    "generation_length": "avg_generation_toks_per_req",
    "queue_time": "brixflow_pod_queue_seconds",
    "prefill_time": "brixflow_pod_prefill_seconds",
    "decode_time": "brixflow_pod_decode_seconds",
    "first_token_time": "brixflow_pod_first_token_seconds",
    "token_time": "brixflow_pod_token_seconds",
    "request_time": "brixflow_pod_request_seconds",
}
"""Gauges of the kernel and the names that AIBrix exports them by; those that it has not carry ours."""

QUERIED = frozenset(question.name for question in QUESTIONS)
"""With a Prometheus server these are what it says."""


@dataclass(frozen=True)
class Snapshot:
    """What one scrape shows. `totals` is None until there is a segment."""

    totals: Totals | None
    endpoints: Sequence[Endpoint]
    is_synced: bool
    gauges: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    users: Users | None = None
    served: Sequence[Endpoint] = ()
    """The endpoints, and each once more for every adapter in it."""
    querying: Querying | None = None
    """What Prometheus says, when it is asked."""


class GatewayMetrics(Collector):
    """Turns snapshots into metric families; `take` is called once a scrape."""

    def __init__(self, gateway_pod: str, take: Callable[[], Snapshot]) -> None:
        self._gateway_pod = gateway_pod
        self._take = take

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not take a snapshot."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All families at one moment."""
        snapshot = self._take()
        yield self._topology_synced(snapshot.is_synced)
        yield self._replicas(snapshot.served)
        yield self._listed(snapshot.served)
        yield from self._engines(snapshot)
        if snapshot.querying is not None:
            yield from self._queried(snapshot, snapshot.querying)
        if snapshot.totals is not None:
            yield self._wakes(snapshot.totals)
            yield from self._requests(snapshot.totals)
            yield from self._models(snapshot.totals.models)
            yield from times.families(self._gateway_pod, snapshot.totals.models)
            yield self._decisions(snapshot.totals)
            yield self._without_data(snapshot.totals)
            yield self._running(snapshot.totals)
            yield from self._pages(snapshot.totals)
            yield from self._segment(snapshot.totals)
            yield from self._questions(snapshot.totals)

    def _requests(self, totals: Totals) -> Iterable[Metric]:
        begun = CounterMetricFamily("gateway_request", "Requests begun.", labels=("gateway_pod", "model", "pod_name"))
        begun.add_metric((self._gateway_pod, "", self._gateway_pod), totals.requests)
        yield begun
        running = GaugeMetricFamily(
            "gateway_in_flight_requests", "Requests begun and not ended.", labels=("gateway_pod",)
        )
        running.add_metric((self._gateway_pod,), totals.in_flight)
        yield running

    def _models(self, models: Sequence[ModelTotals]) -> Iterable[Metric]:
        running = GaugeMetricFamily(
            "gateway_model_in_flight_requests", "Requests in flight, by model.", labels=("gateway_pod", "model")
        )
        for each in models:
            running.add_metric((self._gateway_pod, each.name or UNKNOWN_MODEL), each.in_flight)
        yield running
        yield from self._endings(models)
        yield from self._tokens(models)

    def _endings(self, models: Sequence[ModelTotals]) -> Iterable[Metric]:
        good = CounterMetricFamily("gateway_request_model_success", "Requests that ended well.", labels=ENDING_LABELS)
        bad = CounterMetricFamily("gateway_request_model_fail", "Requests that did not end well.", labels=ENDING_LABELS)
        for each in models:
            for (outcome, code), count in each.endings.items():
                family = good if outcome == Outcome.OK else bad
                status = _status(outcome, code)
                family.add_metric(
                    (self._gateway_pod, each.name or UNKNOWN_MODEL, self._gateway_pod, status, str(code)), count
                )
        yield good
        yield bad

    def _tokens(self, models: Sequence[ModelTotals]) -> Iterable[Metric]:
        names = ("gateway_pod", "model")
        read = CounterMetricFamily("gateway_input_tokens", "Prompt tokens by the engines' own count.", labels=names)
        made = CounterMetricFamily("gateway_output_tokens", "Tokens that the engines made.", labels=names)
        with_usage = CounterMetricFamily(
            "gateway_requests_with_usage", "Requests whose answer said its usage.", labels=(*names, "has_usage")
        )
        for each in models:
            if each.name:
                read.add_metric((self._gateway_pod, each.name), each.prompt_tokens)
                made.add_metric((self._gateway_pod, each.name), each.completion_tokens)
                with_usage.add_metric((self._gateway_pod, each.name, "true"), each.with_usage)
        yield from (read, made, with_usage)

    def _replicas(self, endpoints: Sequence[Endpoint]) -> Metric:
        family = GaugeMetricFamily("model_replicas", "1 for each pod that may be chosen.", labels=REPLICA_LABELS)
        for each in endpoints:
            if each.ready:
                own = (each.engine, self._gateway_pod, each.model, each.model, each.namespace, each.name)
                family.add_metric((*own, each.role, each.role_replica_index, each.roleset), 1)
        return family

    def _listed(self, endpoints: Sequence[Endpoint]) -> Metric:
        family = GaugeMetricFamily("brixflow_model_pods", "Pods that name the model.", labels=("model", "ready"))
        counts: dict[tuple[str, str], int] = {}
        for each in endpoints:
            for ready in ("false", "true"):
                counts.setdefault((each.model, ready), 0)
            counts[each.model, "true" if each.ready else "false"] += 1
        for key, count in sorted(counts.items()):
            family.add_metric(key, count)
        return family

    def _running(self, totals: Totals) -> Metric:
        family = GaugeMetricFamily(
            "brixflow_pod_requests_running", "Requests on the pod, over all processes.", labels=("namespace", "pod")
        )
        running: dict[tuple[str, str], int] = {}
        for each in totals.pods:
            running[each.namespace, each.name] = running.get((each.namespace, each.name), 0) + each.running
        for key, count in running.items():
            family.add_metric(key, count)
        return family

    def _segment(self, totals: Totals) -> Iterable[Metric]:
        yield GaugeMetricFamily("brixflow_segment_bytes", "Size of the shared segment.", value=totals.bytes)
        yield GaugeMetricFamily("brixflow_segment_readers", "Processes that read the segment.", value=totals.readers)
        yield CounterMetricFamily("brixflow_segment_anomalies", "Counts that did not match.", value=totals.anomalies)
        yield CounterMetricFamily(
            "brixflow_responses_unparsed", "Answers without readable usage.", value=totals.unparsed
        )

    def _questions(self, totals: Totals) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "brixflow_limit_questions", "Requests that waited for the collector.", value=totals.asked
        )
        without = CounterMetricFamily(
            "brixflow_limit_fallbacks", "Limits decided on this node alone, by reason.", labels=("reason",)
        )
        without.add_metric(("unanswered",), totals.unanswered)
        without.add_metric(("store_away",), totals.degraded)
        yield without

    def _wakes(self, totals: Totals) -> Metric:
        family = CounterMetricFamily("brixflow_claim_wakes", "Wakes asked for, by result.", labels=("result",))
        family.add_metric(("failed",), totals.wakes_failed)
        family.add_metric(("woken",), totals.wakes)
        return family

    def _decisions(self, totals: Totals) -> Metric:
        family = CounterMetricFamily("brixflow_decisions", "Pods chosen, by strategy.", labels=("strategy",))
        for strategy, count in sorted(totals.decisions.items()):
            family.add_metric((strategy,), count)
        return family

    def _without_data(self, totals: Totals) -> Metric:
        family = CounterMetricFamily(
            "gateway_strategy_without_data", "Decisions that a strategy took without its data.", labels=("strategy",)
        )
        for strategy, count in sorted(totals.without_data.items()):
            family.add_metric((strategy,), count)
        return family

    def _engines(self, snapshot: Snapshot) -> Iterable[Metric]:
        """What engines say of themselves, of a pod with several ports their sum or mean; nothing of old samples."""
        for names, combined in ((SUMMED, sum), (AVERAGED, fmean)):
            for gauge, name in names.items():
                if snapshot.querying is not None and name in QUERIED:
                    continue
                what = f"Of the engine's last page: {gauge}."
                family = GaugeMetricFamily(name, what, labels=(*POD_LABELS, "model_name"))
                for each in snapshot.endpoints:
                    known = [snapshot.gauges.get(key, {}) for key in each.keys]
                    if values := [own[gauge] for own in known if gauge in own]:
                        family.add_metric((*self._pod_labels(each), each.model), combined(values))
                yield family
        if snapshot.users is not None:
            family = GaugeMetricFamily("vtc_bucket_size_active", "Tokens that stand for one pod.", labels=POD_LABELS)
            for each in snapshot.endpoints:
                if each.ready:
                    family.add_metric(self._pod_labels(each), snapshot.users.bucket)
            yield family

    def _queried(self, snapshot: Snapshot, querying: Querying) -> Iterable[Metric]:
        answers = querying.answers()
        for question in QUESTIONS:
            family = GaugeMetricFamily(question.name, f"By Prometheus: {question.what}", labels=POD_LABELS)
            for each in snapshot.endpoints:
                value = of_endpoint(question, answers.get(question.name, {}), each)
                if value is not None:
                    family.add_metric(self._pod_labels(each), value)
            yield family
        failed = CounterMetricFamily(
            "prometheus_query_fail", "Questions that Prometheus did not answer.", labels=("gateway_pod", "model")
        )
        failed.add_metric((self._gateway_pod, ""), querying.failures)
        yield failed

    def _pages(self, totals: Totals) -> Iterable[Metric]:
        failed = CounterMetricFamily(
            "llm_engine_metrics_query_fail", "Pages that engines did not give.", labels=("gateway_pod", "model")
        )
        failed.add_metric((self._gateway_pod, ""), totals.pages_failed)
        yield failed
        yield CounterMetricFamily("brixflow_scrapes", "Pages that engines gave.", value=totals.pages)

    def _pod_labels(self, each: Endpoint) -> tuple[str, ...]:
        return pod_labels(self._gateway_pod, each)

    def _topology_synced(self, is_synced: bool) -> Metric:
        return GaugeMetricFamily(
            "brixflow_topology_synced", "1 once the API server's pods were listed.", value=is_synced
        )


def pod_labels(gateway_pod: str, each: Endpoint) -> tuple[str, ...]:
    """Values of POD_LABELS."""
    own = (each.engine, gateway_pod, each.model, each.namespace, each.name)
    return (*own, each.role, each.role_replica_index, each.roleset)


def _status(outcome: Outcome, code: int) -> str:
    if outcome == Outcome.OK:
        return SUCCESS
    if outcome == Outcome.REJECTED and code == UNAUTHORIZED:
        return HEADERS_FAIL
    return FAILURES.get(outcome, "gateway_request_fail")

"""The operator's own figures; Temporal's SDK brings its own about workers and activities."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ROLLOUT_BUCKETS = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 5120.0, 10240.0)
STEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ADMISSION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class Metrics:
    """Counters of one operator process, in a registry of their own so that tests can make several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.decisions = Counter(
            "brixflow_decisions_total",
            "Decisions returned to workflows: steps, view, close.",
            ["kind", "scope", "class"],
            registry=self.registry,
        )
        self.steps = Counter(
            "brixflow_steps_total",
            "Steps carried out, by outcome.",
            ["kind", "step", "outcome"],
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            "brixflow_step_seconds",
            "Time that one step took.",
            ["step"],
            buckets=STEP_BUCKETS,
            registry=self.registry,
        )
        self.decision_reasons = Counter(
            "brixflow_decision_reasons_total",
            "Decisions by what they were for: each step type in them once, close-RESULT, or view.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self.rollout_seconds = Histogram(
            "brixflow_rollout_seconds",
            "Time from the start of a rollout to its end.",
            ["kind", "result"],
            buckets=ROLLOUT_BUCKETS,
            registry=self.registry,
        )
        self.blocked_seconds = Counter(
            "brixflow_blocked_seconds_total",
            "Time that objects spent blocked, by what blocked them.",
            ["kind", "cause"],
            registry=self.registry,
        )
        self.blocked = Gauge(
            "brixflow_blocked_objects",
            "Objects that are blocked at this moment.",
            ["kind", "cause"],
            registry=self.registry,
        )
        self.commands = Counter(
            "brixflow_commands_total",
            "Pause, resume, undo and restart sent to workflows, by outcome.",
            ["kind", "verb", "outcome"],
            registry=self.registry,
        )
        self.plan_seconds = Histogram(
            "brixflow_plan_seconds", "Time of one pass of a planner.", ["kind"], registry=self.registry
        )
        self.polls = Gauge("brixflow_polls", "Polls that wait for a decision.", ["kind"], registry=self.registry)
        self.planner_errors = Counter(
            "brixflow_planner_errors_total", "Passes that raised.", ["kind"], registry=self.registry
        )
        self.status_writes = Counter(
            "brixflow_status_writes_total", "Status writes, by result.", ["kind", "result"], registry=self.registry
        )
        self.cache_objects = Gauge(
            "brixflow_cache_objects", "Objects in the cache.", ["resource"], registry=self.registry
        )
        self.relists = Counter("brixflow_informer_relists_total", "Lists.", ["resource"], registry=self.registry)
        self.starts = Counter(
            "brixflow_workflow_starts_total", "Starts of workflows, by result.", ["result"], registry=self.registry
        )
        self.admissions = Counter(
            "brixflow_admission_requests_total",
            "Calls of the webhooks: allowed, patched, refused, failed, malformed.",
            ["webhook", "outcome"],
            registry=self.registry,
        )
        self.admission_seconds = Histogram(
            "brixflow_admission_seconds",
            "Time of one call of a webhook, from its whole body to its answer.",
            ["webhook"],
            buckets=ADMISSION_BUCKETS,
            registry=self.registry,
        )
        self.certificate_end = Gauge(
            "brixflow_admission_certificate_not_after_seconds",
            "When the webhooks' certificate expires, in Unix time.",
            registry=self.registry,
        )
        self.leader = Gauge("brixflow_leader", "1 while this process holds the Lease.", registry=self.registry)

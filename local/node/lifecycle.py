"""Which container starts, stops or waits: a pure decision over the spec and the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from local.node.files import Json
from local.node.records import ContainerRecord, Terminated


@dataclass(frozen=True)
class Start:
    """Start the container's next attempt."""

    name: str


@dataclass(frozen=True)
class Stop:
    """End the running container; it starts again by its restart policy."""

    name: str
    message: str


@dataclass(frozen=True)
class Delay:
    """The container waits, with the reason that people see."""

    name: str
    until: float
    reason: str
    message: str


Step = Start | Stop | Delay


@dataclass(frozen=True)
class Plan:
    """What to do at once, and how the pod stands."""

    steps: list[Step] = field(default_factory=list)
    initialized: bool = False
    finished: bool = False  # nothing will ever start again
    failed: bool = False  # an init container failed for good


@dataclass(frozen=True)
class Situation:
    """All that the decision looks at."""

    spec: Json
    records: Mapping[str, ContainerRecord]
    sandbox: int
    now: float
    busy: frozenset[str] = frozenset()  # containers with a start or stop under way


def may_restart(policy: str, record: ContainerRecord) -> bool:
    """Whether an ended container starts again."""
    ended = record.ended
    if record.kind == "sidecar" or ended is None:
        return True
    if record.kind == "init":
        return ended.exit_code != 0 and policy != "Never"
    return policy == "Always" or (policy == "OnFailure" and ended.exit_code != 0)


def decide(situation: Situation) -> Plan:
    """The next steps: init containers in order, then all containers at once."""
    policy = situation.spec.get("restartPolicy", "Always")
    steps, initialized, failed = _initialize(situation, policy)
    mains = [situation.records[one["name"]] for one in situation.spec["containers"]]
    if failed:
        return Plan(finished=not any(record.is_running for record in mains), failed=True)
    if initialized:
        steps += _run_all(situation, situation.spec["containers"], policy)
    finished = initialized and all(_is_over(record, policy) for record in mains)
    return Plan([] if finished else steps, initialized, finished)


def _is_over(record: ContainerRecord, policy: str) -> bool:
    return isinstance(record.state, Terminated) and not may_restart(policy, record)


def _initialize(situation: Situation, policy: str) -> tuple[list[Step], bool, bool]:
    """Steps for init containers, whether all are done, whether one failed for good."""
    begun = any(one.kind == "main" and one.sandbox == situation.sandbox for one in situation.records.values())
    steps: list[Step] = []
    for container in situation.spec.get("initContainers", ()):
        record = situation.records[container["name"]]
        if record.kind == "sidecar":
            steps += _run_one(situation, container, record, policy)
            if not (record.is_running and record.started) and not begun:
                return steps, False, False
        elif not begun and not _is_done(record, situation.sandbox):
            if _has_failed(record, situation.sandbox, policy):
                return [], False, True
            return steps + _run_one(situation, container, record, policy), False, False
    return steps, True, False


def _is_done(record: ContainerRecord, sandbox: int) -> bool:
    return record.sandbox == sandbox and isinstance(record.state, Terminated) and record.state.exit_code == 0


def _has_failed(record: ContainerRecord, sandbox: int, policy: str) -> bool:
    ended = isinstance(record.state, Terminated) and record.sandbox == sandbox
    return ended and not may_restart(policy, record)


def _run_all(situation: Situation, containers: Sequence[Json], policy: str) -> list[Step]:
    steps: list[Step] = []
    for container in containers:
        steps += _run_one(situation, container, situation.records[container["name"]], policy)
    return steps


def _run_one(situation: Situation, container: Json, record: ContainerRecord, policy: str) -> list[Step]:
    name = record.name
    if name in situation.busy:
        return []
    changed = bool(record.image) and record.image != container.get("image", "")
    if record.is_running:
        return [Stop(name, f"Container {name} definition changed, will be restarted")] if changed else []
    ended = record.ended
    if record.kind == "main" and not changed and _is_over(record, policy):
        return []
    if ended is None or changed or record.sandbox != situation.sandbox:
        return _start_unless_blocked(situation, record, container)
    if not may_restart(policy, record) and isinstance(record.state, Terminated):
        return []
    until = record.backoff.waits_until(ended.finished_at)
    if until > situation.now:
        message = f"back-off {_words(record.backoff.delay)} restarting failed container={name}"
        return [Delay(name, until, "CrashLoopBackOff", message)]
    return _start_unless_blocked(situation, record, container)


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


def _start_unless_blocked(situation: Situation, record: ContainerRecord, container: Json) -> list[Step]:
    """A start that failed is tried again after its delay, or at once when the image was changed since."""
    blocked = record.blocked
    if blocked and blocked.image == container.get("image", "") and blocked.until > situation.now:
        return [Delay(record.name, blocked.until, blocked.reason, blocked.message)]
    return [Start(record.name)]

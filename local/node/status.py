"""A pod's status as a kubelet reports it: a pure function of the pod, the records and the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from local.node.files import Json
from local.node.quantity import parse_quantity
from local.node.records import ContainerRecord, Running, State, Terminated

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


@dataclass(frozen=True)
class PodView:
    """What the status is made from."""

    pod: Json
    records: Mapping[str, ContainerRecord]
    host_address: str
    address: str  # empty until the sandbox exists
    started_at: float
    has_sandbox: bool
    initialized: bool
    finished: bool = False
    failed: bool = False
    ending: bool = False  # the pod is being deleted
    reason: str = ""
    message: str = ""


def timestamp(seconds: float) -> str:
    """The API's time format, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> float:
    """The reverse of `timestamp`."""
    return datetime.fromisoformat(text).timestamp()


def pod_status(view: PodView, previous: Json, now: float) -> Json:
    """The whole status; transition times are kept from `previous` where a condition is unchanged."""
    spec = view.pod["spec"]
    phase = pod_phase(view)
    status: Json = {
        "phase": phase,
        "conditions": _conditions(view, phase, previous, now),
        "hostIP": view.host_address,
        "hostIPs": [{"ip": view.host_address}],
        "startTime": timestamp(view.started_at),
        "qosClass": qos_class(spec),
        "containerStatuses": [_container(view, one) for one in sorted(spec["containers"], key=_name)],
        "reason": view.reason or None,
        "message": view.message or None,
    }
    if spec.get("initContainers"):
        status["initContainerStatuses"] = [_container(view, one) for one in spec["initContainers"]]
    if view.address:
        status |= {"podIP": view.address, "podIPs": [{"ip": view.address}]}
    if "generation" in view.pod["metadata"]:
        status["observedGeneration"] = view.pod["metadata"]["generation"]
    return status


def _name(container: Json) -> str:
    return str(container["name"])


def pod_phase(view: PodView) -> str:
    """The phase by the rules of the API's pod lifecycle."""
    before = view.pod.get("status", {}).get("phase")
    if before in ("Succeeded", "Failed"):
        return str(before)
    if view.failed or view.reason:
        return "Failed"
    mains = [view.records[one["name"]] for one in view.pod["spec"]["containers"]]
    endings = [record.ended for record in mains]
    if view.ending and not any(record.is_running for record in mains):
        return "Succeeded" if all(end is not None and end.exit_code == 0 for end in endings) else "Failed"
    if view.finished and not any(record.is_running for record in view.records.values()):  # sidecars end last
        return "Succeeded" if all(end is not None and end.exit_code == 0 for end in endings) else "Failed"
    if not view.initialized or any(not record.is_running and record.ended is None for record in mains):
        return "Pending"
    return "Running"


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort, from cpu and memory of all containers."""
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    amounts = [one.get("resources", {}) for one in containers]
    used = [
        parse_quantity(value)
        for one in amounts
        for part in ("requests", "limits")
        for key, value in one.get(part, {}).items()
        if key in ("cpu", "memory")
    ]
    if not any(used):
        return "BestEffort"
    return "Guaranteed" if all(_is_guaranteed(one) for one in amounts) else "Burstable"


def _is_guaranteed(resources: Json) -> bool:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    return all(
        key in limits and parse_quantity(requests.get(key, limits[key])) == parse_quantity(limits[key])
        for key in ("cpu", "memory")
    )


# ---- containers --------------------------------------------------------------------------------


def _container(view: PodView, container: Json) -> Json:
    record = view.records[container["name"]]
    current, last = _states(record)
    status: Json = {
        "name": record.name,
        "image": container.get("image", "") if not record.container_id else record.image,
        "imageID": record.image_id,
        "restartCount": record.restarts,
        "ready": _is_ready(view, record),
        "started": record.is_running and record.started,
        "state": current,
        "lastState": last,
    }
    if record.container_id:
        status["containerID"] = f"brixflow://{record.container_id}"
    return status


def _is_ready(view: PodView, record: ContainerRecord) -> bool:
    if record.kind == "init":
        return isinstance(record.state, Terminated) and record.state.exit_code == 0
    return record.is_running and record.ready and not view.ending


def _states(record: ContainerRecord) -> tuple[Json, Json]:
    last = {"terminated": _terminated(record.last)} if record.last else {}
    return _state(record.state), last


def _state(state: State) -> Json:
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started_at)}}
    if isinstance(state, Terminated):
        return {"terminated": _terminated(state)}
    waiting = {"reason": state.reason}
    return {"waiting": waiting | ({"message": state.message} if state.message else {})}


def _terminated(end: Terminated) -> Json:
    status: Json = {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "startedAt": timestamp(end.started_at),
        "finishedAt": timestamp(end.finished_at),
        "containerID": f"brixflow://{end.container_id}",
    }
    return status | ({"message": end.message} if end.message else {})


# ---- conditions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Condition:
    type: str
    true: bool
    reason: str = ""
    message: str = ""


def _conditions(view: PodView, phase: str, previous: Json, now: float) -> list[Json]:
    before = {one["type"]: one for one in previous.get("conditions", ())}
    own = [_sandbox(view, phase), _initialized(view, phase), *_readiness(view, phase)]
    generation = view.pod["metadata"].get("generation")
    return [_render(one, before.get(one.type), generation, now) for one in own]


def _render(condition: _Condition, before: Json | None, generation: int | None, now: float) -> Json:
    value = "True" if condition.true else "False"
    same = before is not None and before["status"] == value
    rendered: Json = {
        "type": condition.type,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if same and before else timestamp(now),
        "reason": condition.reason or None,
        "message": condition.message or None,
    }
    return rendered | ({"observedGeneration": generation} if generation is not None else {})


def _sandbox(view: PodView, phase: str) -> _Condition:
    return _Condition("PodReadyToStartContainers", view.has_sandbox and phase not in ("Succeeded", "Failed"))


def _initialized(view: PodView, phase: str) -> _Condition:
    if view.initialized:
        return _Condition("Initialized", True, "PodCompleted" if phase == "Succeeded" else "")
    names = [one["name"] for one in view.pod["spec"].get("initContainers", ())]
    open_ones = [name for name in names if not _init_done(view.records[name])]
    message = f"containers with incomplete status: [{' '.join(open_ones)}]"
    return _Condition("Initialized", not names, "ContainersNotInitialized" if names else "", message if names else "")


def _init_done(record: ContainerRecord) -> bool:
    if record.kind == "sidecar":
        return record.is_running and record.started
    return isinstance(record.state, Terminated) and record.state.exit_code == 0


def _readiness(view: PodView, phase: str) -> list[_Condition]:
    containers = _containers_ready(view, phase)
    ready = _Condition("Ready", containers.true, containers.reason, containers.message)
    missing = _closed_gates(view.pod) if containers.true else []
    if missing:
        ready = _Condition("Ready", False, "ReadinessGatesNotReady", ", ".join(missing))
    return [ready, containers]


def _containers_ready(view: PodView, phase: str) -> _Condition:
    if phase in ("Succeeded", "Failed"):
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        return _Condition("ContainersReady", False, reason)
    watched = [*view.pod["spec"]["containers"], *_sidecars(view)]
    unready = [one["name"] for one in watched if not _is_ready(view, view.records[one["name"]])]
    if not unready:
        return _Condition("ContainersReady", True)
    message = f"containers with unready status: [{' '.join(unready)}]"
    return _Condition("ContainersReady", False, "ContainersNotReady", message)


def _sidecars(view: PodView) -> Sequence[Json]:
    return [one for one in view.pod["spec"].get("initContainers", ()) if view.records[one["name"]].kind == "sidecar"]


def _closed_gates(pod: Json) -> list[str]:
    conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", ())}
    closed = []
    for gate in pod["spec"].get("readinessGates", ()):
        kind = gate["conditionType"]
        if kind not in conditions:
            closed.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif conditions[kind] != "True":
            closed.append(f'the status of pod readiness gate "{kind}" is not "True", but {conditions[kind]}')
    return closed

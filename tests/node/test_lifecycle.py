"""Which container starts when, decided without a clock or a process."""

from __future__ import annotations

from typing import Any

from local.node.lifecycle import Delay, Plan, Situation, Start, Stop, decide
from local.node.records import Backoff, Blocked, ContainerRecord, Running, State, Terminated, Waiting, records_for
from local.node.status import PodView, pod_phase, pod_status

NOW = 1000.0
IMAGE = "busybox:1"


def spec(
    *mains: str, policy: str = "Always", inits: tuple[str, ...] = (), sidecars: tuple[str, ...] = ()
) -> dict[str, Any]:
    first = [{"name": name, "image": IMAGE} for name in inits]
    first += [{"name": name, "image": IMAGE, "restartPolicy": "Always"} for name in sidecars]
    containers = [{"name": name, "image": IMAGE} for name in mains or ("main",)]
    return {"restartPolicy": policy, "initContainers": first, "containers": containers}


def ended(code: int, at: float = NOW) -> Terminated:
    return Terminated(code, "Error" if code else "Completed", at - 5, at, "id")


def plan(of: dict[str, Any], states: dict[str, State] | None = None, **fields: Any) -> Plan:
    """Decides with all containers that have a state in sandbox 1."""
    records = {record.name: record for record in records_for(of)}
    for name, state in (states or {}).items():
        records[name].state, records[name].sandbox, records[name].attempt = state, 1, 0
        records[name].image, records[name].started = IMAGE, True
    for name, changes in fields.items():
        for field, value in changes.items():
            setattr(records[name], field, value)
    return decide(Situation(of, records, 1, NOW))


def test_init_containers_start_one_after_the_other() -> None:
    pod = spec("main", inits=("one", "two"))
    assert plan(pod).steps == [Start("one")]
    assert plan(pod, {"one": Running(1)}).steps == []
    assert plan(pod, {"one": ended(0)}).steps == [Start("two")]
    done = plan(pod, {"one": ended(0), "two": ended(0)})
    assert done.steps == [Start("main")]
    assert done.initialized


def test_a_sidecar_holds_the_others_until_it_has_started() -> None:
    pod = spec("main", sidecars=("side",))
    assert plan(pod, {"side": Running(1)}, side={"started": False}).steps == []
    assert plan(pod, {"side": Running(1)}).steps == [Start("main")]


def test_a_crashed_sidecar_restarts_beside_running_containers_even_with_never() -> None:
    pod = spec("main", policy="Never", sidecars=("side",))
    assert plan(pod, {"side": ended(1), "main": Running(1)}).steps == [Start("side")]


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    assert plan(spec(policy="Never", inits=("one",)), {"one": ended(1)}).failed
    assert plan(spec(policy="OnFailure", inits=("one",)), {"one": ended(1)}).steps == [Start("one")]


def test_restart_policies() -> None:
    for policy, code, starts in [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ]:
        decision = plan(spec(policy=policy), {"main": ended(code)})
        assert bool(decision.steps) is starts
        assert decision.finished is not starts


def test_a_crash_waits_for_its_back_off() -> None:
    decision = plan(spec(), {"main": ended(1)}, main={"backoff": Backoff(10, NOW - 20)})
    assert decision.steps == [
        Delay("main", NOW + 10, "CrashLoopBackOff", "back-off 10s restarting failed container=main")
    ]


def test_a_changed_image_stops_one_container_and_skips_its_back_off() -> None:
    pod = spec("main", "other")
    running = plan(pod, {"main": Running(1), "other": Running(1)}, main={"image": "busybox:0"})
    assert running.steps == [Stop("main", "Container main definition changed, will be restarted")]
    waits = {"image": "busybox:0", "backoff": Backoff(300, NOW)}
    assert plan(pod, {"main": ended(1), "other": Running(1)}, main=waits).steps == [Start("main")]


def test_a_blocked_start_waits_unless_the_image_was_changed() -> None:
    blocked = Blocked(IMAGE, "ImagePullBackOff", "m", NOW - 5, 10)
    assert plan(spec(), main={"blocked": blocked}).steps == [Delay("main", NOW + 5, "ImagePullBackOff", "m")]
    other = Blocked("nosuch:1", "ImagePullBackOff", "m", NOW - 5, 10)
    assert plan(spec(), main={"blocked": other}).steps == [Start("main")]


def test_a_new_sandbox_runs_everything_again_but_what_is_complete() -> None:
    pod = spec("main", inits=("one",))
    records = {"one": {"sandbox": 0}, "main": {"sandbox": 0}}
    assert plan(pod, {"one": ended(0), "main": ended(255)}, **records).steps == [Start("one")]


def view(of: dict[str, Any], states: dict[str, State], **fields: Any) -> PodView:
    records: dict[str, ContainerRecord] = {record.name: record for record in records_for(of)}
    for name, state in states.items():
        records[name].state = state
    pod = {"metadata": {"name": "p", "generation": 3}, "spec": of, "status": fields.pop("status", {})}
    values = {"initialized": True, "has_sandbox": True, **fields}
    return PodView(pod, records, "10.0.0.1", "10.0.0.2", NOW, **values)


def test_phases() -> None:
    two = spec("a", "b")
    wait = Waiting("ContainerCreating")
    for states, fields, phase in [
        ({"a": wait, "b": wait}, {}, "Pending"),
        ({"a": Running(1), "b": wait}, {}, "Pending"),
        ({"a": Running(1), "b": ended(1)}, {}, "Running"),
        ({"a": ended(0), "b": ended(0)}, {"finished": True}, "Succeeded"),
        ({"a": ended(0), "b": ended(2)}, {"finished": True}, "Failed"),
        ({"a": ended(0), "b": ended(143)}, {"ending": True}, "Failed"),
        ({"a": Running(1), "b": Running(1)}, {"initialized": False}, "Pending"),
        ({"a": Running(1), "b": Running(1)}, {"status": {"phase": "Failed"}}, "Failed"),
    ]:
        assert pod_phase(view(two, states, **fields)) == phase


def test_a_crash_loop_is_running_and_not_ready() -> None:
    looping = view(spec(), {"main": Waiting("CrashLoopBackOff")})
    looping.records["main"].last = ended(1)
    status = pod_status(looping, {}, NOW)
    conditions = {one["type"]: one for one in status["conditions"]}
    assert status["phase"] == "Running"
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Ready"]["message"] == "containers with unready status: [main]"
    assert status["observedGeneration"] == conditions["Ready"]["observedGeneration"] == 3


def test_transition_times_are_kept_while_nothing_changes() -> None:
    first = pod_status(view(spec(), {"main": Running(1)}), {}, NOW)
    again = pod_status(view(spec(), {"main": Running(1)}), first, NOW + 500)
    assert first["conditions"] == again["conditions"]


def test_a_readiness_gate_holds_a_ready_pod_back() -> None:
    gated = {**spec(), "readinessGates": [{"conditionType": "example.com/open"}]}
    for conditions, ready in [([], "False"), ([{"type": "example.com/open", "status": "True"}], "True")]:
        seen = view(gated, {"main": Running(1)}, status={"conditions": conditions})
        seen.records["main"].ready = True
        by_type = {one["type"]: one["status"] for one in pod_status(seen, {}, NOW)["conditions"]}
        assert by_type["ContainersReady"] == "True"
        assert by_type["Ready"] == ready


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    ending = view(spec(), {"main": Running(1)}, ending=True)
    ending.records["main"].ready = True
    assert [one["status"] for one in pod_status(ending, {}, NOW)["conditions"] if one["type"] == "Ready"] == ["False"]


def test_what_is_complete_is_not_run_again_after_a_restart_of_the_machine() -> None:
    pod = spec("a", "b", policy="OnFailure")
    old = {"sandbox": 0}
    assert plan(pod, {"a": ended(0), "b": ended(255)}, a=old, b=old).steps == [Start("b")]
    never = spec("a", policy="Never")
    assert plan(never, {"a": ended(137)}, a=old).finished

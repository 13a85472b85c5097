"""The supervisor as a process of its own, with real parts: order, restarts, holds, take-over, ends."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from local.errors import NotRunningError, SupervisorError
from local.settings import CHECKOUT
from local.supervisor.client import SupervisorClient, is_supervised, start_supervisor
from local.supervisor.keeper import BackOff
from local.supervisor.part import HttpCheck, Part, PartError, fingerprint_of, generations
from local.supervisor.process import identify
from local.supervisor.records import Record, record_directory
from local.supervisor.server import Supervisor
from tests.local.conftest import toy_part


def listening(events: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    return events.append


def quietly(_event: dict[str, Any]) -> None:
    pass


def described(client: SupervisorClient, name: str) -> dict[str, Any]:
    return next(part for part in client.status() if part["name"] == name)


def eventually(condition: Callable[[], bool], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.03)


def supervisor_pid(home: Path) -> int:
    """The process that holds the home's lock."""
    inode = (home / "supervisor.lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    raise AssertionError("nobody holds the lock")


def test_a_part_starts_after_what_it_needs(supervisor: SupervisorClient) -> None:
    events: list[dict[str, Any]] = []
    supervisor.ensure([toy_part("upper", after=("lower",)), toy_part("lower")], listening(events))
    assert [(event["event"], event["part"]) for event in events] == [
        ("starting", "lower"),
        ("ready", "lower"),
        ("starting", "upper"),
        ("ready", "upper"),
    ]
    assert all(part["healthy"] for part in supervisor.status())


def test_parts_that_wait_for_each_other_are_refused(supervisor: SupervisorClient) -> None:
    with pytest.raises(SupervisorError, match="wait for each other: a, b"):
        supervisor.ensure([toy_part("a", after=("b",)), toy_part("b", after=("a",))], quietly)


def test_needs_that_are_not_among_the_parts_count_as_met() -> None:
    assert [[part.name for part in group] for group in generations([toy_part("operator", after=("temporal",))])] == [
        ["operator"]
    ]


def test_a_second_ensure_changes_nothing(supervisor: SupervisorClient) -> None:
    part = toy_part("part")
    supervisor.ensure([part], quietly)
    before = described(supervisor, "part")["pid"]
    events: list[dict[str, Any]] = []
    supervisor.ensure([part], listening(events))
    assert events[0] == {"event": "unchanged", "part": "part"}
    assert described(supervisor, "part")["pid"] == before


def test_a_changed_command_restarts_just_that_part(supervisor: SupervisorClient) -> None:
    first, other = toy_part("first"), toy_part("other")
    supervisor.ensure([first, other], quietly)
    pids = {part["name"]: part["pid"] for part in supervisor.status()}
    events: list[dict[str, Any]] = []
    port = int(first.check.url.rpartition(":")[2])
    supervisor.ensure([toy_part("first", "say=anew", port=port), other], listening(events))
    assert {event["part"]: event["event"] for event in events if event["event"] != "ready"} == {
        "first": "changed",
        "other": "unchanged",
    }
    assert described(supervisor, "first")["pid"] != pids["first"]
    assert described(supervisor, "other")["pid"] == pids["other"]


def test_a_part_that_dies_is_started_again_and_counted(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part")], quietly)
    before = described(supervisor, "part")["pid"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: described(supervisor, "part")["state"] == "waiting")
    assert "killed by SIGKILL" in described(supervisor, "part")["reason"]
    eventually(lambda: described(supervisor, "part")["healthy"])
    assert described(supervisor, "part")["pid"] != before
    assert described(supervisor, "part")["restarts"] == 1


def test_a_killed_part_stays_down_while_it_is_held(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part")], quietly)
    supervisor.by_hand("kill", "part", hold_seconds=1.5)
    held = described(supervisor, "part")
    assert (held["state"], held["pid"]) == ("waiting", None)
    assert "held down for 1.5 s" in held["reason"]
    time.sleep(1.1)
    assert described(supervisor, "part")["state"] == "waiting"
    eventually(lambda: described(supervisor, "part")["healthy"])


def test_start_ends_a_hold(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part")], quietly)
    supervisor.by_hand("kill", "part", hold_seconds=600)
    supervisor.by_hand("start", "part")
    assert described(supervisor, "part")["healthy"]


def test_a_stopped_part_stays_stopped_until_it_is_started(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part")], quietly)
    supervisor.by_hand("stop", "part")
    assert described(supervisor, "part")["reason"] == "stopped"
    supervisor.by_hand("start", "part")
    assert described(supervisor, "part")["healthy"]
    supervisor.by_hand("restart", "part")
    assert described(supervisor, "part")["healthy"]


def test_variables_set_by_hand_count_until_the_next_restart(supervisor: SupervisorClient) -> None:
    part = toy_part("part")
    supervisor.ensure([part], quietly)

    def has_mark() -> bool:
        return b"MARK=here" in Path(f"/proc/{described(supervisor, 'part')['pid']}/environ").read_bytes()

    supervisor.by_hand("restart", "part", set={"MARK": "here"})
    assert has_mark()
    supervisor.by_hand("restart", "part")
    assert not has_mark()
    supervisor.by_hand("restart", "part", set={"MARK": "here"})
    supervisor.ensure([part], quietly)
    assert not has_mark()


def test_an_unknown_part_is_answered_with_the_known_ones(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part")], quietly)
    with pytest.raises(SupervisorError, match="no part named prat; there are part"):
        supervisor.by_hand("stop", "prat")


def test_a_part_that_keeps_failing_is_named_with_its_log(supervisor: SupervisorClient, home: Path) -> None:
    with pytest.raises(
        SupervisorError, match=rf"broken does not become healthy: .*exit code 3.*{home}/logs/broken.log"
    ):
        supervisor.ensure([toy_part("broken", "fail", ready_seconds=1.5)], quietly)


def test_a_command_that_cannot_be_run_is_a_reason(supervisor: SupervisorClient) -> None:
    absent = Part("absent", ("/no/such/program",), HttpCheck("http://127.0.0.1:9"), "", ready_seconds=0.3)
    with pytest.raises(SupervisorError, match=r"cannot be started: .*No such file"):
        supervisor.ensure([absent], quietly)


def test_what_a_part_prints_is_in_its_log(supervisor: SupervisorClient, home: Path) -> None:
    supervisor.ensure([toy_part("part", "say=hello")], quietly)
    assert (home / "logs" / "part.log").read_text() == "hello\n"


def test_a_stubborn_part_is_killed_after_its_deadline(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part", "stubborn", stop_seconds=0.3)], quietly)
    pid = described(supervisor, "part")["pid"]
    supervisor.by_hand("stop", "part")
    assert identify(pid) is None


def test_a_part_is_drained_while_it_still_runs(supervisor: SupervisorClient, home: Path) -> None:
    part = toy_part("part", stop_seconds=3.0)
    mark = home / "drained"
    ask = f"import urllib.request as r; open({str(mark)!r}, 'w').write(str(r.urlopen({part.address!r}).status))"
    supervisor.ensure([replace(part, drain=(sys.executable, "-c", ask))], quietly)
    supervisor.by_hand("stop", "part")
    assert mark.read_text() == "200"


def test_a_part_may_open_as_many_files_as_it_is_said_to_need(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part", open_files=300)], quietly)
    pid = described(supervisor, "part")["pid"]
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == 300


def test_a_drain_that_takes_too_long_is_given_up(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part", stop_seconds=0.3, drain=("/bin/sleep", "60"))], quietly)
    pid, began = described(supervisor, "part")["pid"], time.monotonic()
    supervisor.by_hand("stop", "part")
    assert identify(pid) is None
    assert time.monotonic() - began < 5


def test_children_of_a_dead_part_do_not_outlive_it(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("part", "child")], quietly)
    leader = described(supervisor, "part")["pid"]
    eventually(lambda: bool(children_of(leader)))
    (child,) = children_of(leader)
    os.kill(leader, signal.SIGKILL)
    eventually(lambda: identify(child) is None)


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_parts_that_are_no_longer_wanted_are_stopped(supervisor: SupervisorClient) -> None:
    supervisor.ensure([toy_part("kept"), toy_part("dropped")], quietly)
    supervisor.retain(["kept"], quietly)
    assert [part["name"] for part in supervisor.status()] == ["kept"]


def test_shutdown_goes_in_reverse_order_and_runs_teardowns(supervisor: SupervisorClient, home: Path) -> None:
    mark = home / "torn-down"
    upper = toy_part("upper", after=("lower",), teardown=("/bin/sh", "-c", f"echo yes > {mark}"))
    supervisor.ensure([toy_part("lower"), upper], quietly)
    pids = [part["pid"] for part in supervisor.status()]
    events: list[dict[str, Any]] = []
    supervisor.shutdown(listening(events))
    assert [event["part"] for event in events if event["event"] == "stopped"] == ["upper", "lower"]
    assert mark.read_text() == "yes\n"
    assert not any(identify(pid) for pid in pids)
    assert not is_supervised(home)


def test_without_a_supervisor_requests_say_what_to_do(home: Path) -> None:
    with pytest.raises(NotRunningError, match="`brixflow up` starts it"):
        SupervisorClient(home).status()


def test_a_killed_supervisor_is_followed_by_one_that_takes_over(supervisor: SupervisorClient, home: Path) -> None:
    part = toy_part("part")
    supervisor.ensure([part], quietly)
    before = described(supervisor, "part")["pid"]
    os.kill(supervisor_pid(home), signal.SIGKILL)
    eventually(lambda: not is_supervised(home))
    assert identify(before)
    with pytest.raises(NotRunningError, match="its parts run on: part"):
        supervisor.status()
    next_one = start_supervisor(home)
    next_one.ensure([part], quietly)
    assert described(next_one, "part")["pid"] == before
    os.kill(before, signal.SIGKILL)  # it is watched, not just known
    eventually(lambda: described(next_one, "part")["pid"] not in (None, before))
    next_one.shutdown(quietly)


def test_a_supervisor_of_other_code_hands_its_parts_over(
    supervisor: SupervisorClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.ensure([toy_part("part")], quietly)
    part, first = described(supervisor, "part")["pid"], supervisor_pid(home)
    assert start_supervisor(home).is_current()
    assert supervisor_pid(home) == first
    monkeypatch.setattr("local.supervisor.client.sources", lambda: "newer")
    assert described(start_supervisor(home), "part")["pid"] == part
    assert supervisor_pid(home) != first


def test_orphans_of_a_part_that_died_unwatched_are_ended(supervisor: SupervisorClient, home: Path) -> None:
    supervisor.ensure([toy_part("part", "child")], quietly)
    leader = described(supervisor, "part")["pid"]
    eventually(lambda: bool(children_of(leader)))
    (child,) = children_of(leader)
    os.kill(supervisor_pid(home), signal.SIGKILL)
    os.kill(leader, signal.SIGKILL)
    eventually(lambda: not is_supervised(home) and identify(leader) is None)
    assert identify(child)
    start_supervisor(home)
    eventually(lambda: identify(child) is None)


def test_a_stranger_with_a_recorded_pid_is_left_alone(home: Path) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        identity = identify(stranger.pid)
        assert identity
        record = Record(toy_part("part"), identity, time.time(), 0)
        text = record_json(record).replace(f'"started_ticks": {identity.started_ticks}', '"started_ticks": 1')
        record_directory(home).mkdir()
        (record_directory(home) / "part.json").write_text(text)
        client = start_supervisor(home)
        assert client.status() == []
        client.shutdown(quietly)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def record_json(record: Record) -> str:
    return json.dumps(asdict(record))


def test_a_second_supervisor_of_a_home_ends_at_once(supervisor: SupervisorClient, home: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "local.supervisor", str(home)], capture_output=True, text=True, cwd=CHECKOUT, timeout=20
    )
    assert second.returncode == 1
    assert "already" in second.stderr


def test_a_system_goes_down_with_the_process_that_started_it(home: Path) -> None:
    parent = subprocess.Popen(["/bin/sleep", "60"])
    client = start_supervisor(home, parent=parent.pid)
    client.ensure([toy_part("part")], quietly)
    pid = described(client, "part")["pid"]
    parent.kill()
    parent.wait()
    eventually(lambda: not is_supervised(home))
    assert identify(pid) is None


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    home.mkdir()
    client = start_supervisor(home)
    assert client.status() == []
    client.shutdown(quietly)


def test_the_socket_is_for_its_owner_only(supervisor: SupervisorClient, home: Path) -> None:
    assert (home / "supervisor.sock").stat().st_mode & 0o077 == 0


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_long_life() -> None:
    back_off = BackOff()
    pauses, pause = [], 0.0
    for uptime in (5, 5, 5, 5, 5, 5, 5, 61):
        pause = back_off.after(pause, uptime)
        pauses.append(pause)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 1]


async def test_a_part_that_dies_at_once_is_paused_longer_each_time(home: Path) -> None:
    supervisor = Supervisor(home, BackOff(first_seconds=0.05, longest_seconds=0.4))
    failing = toy_part("failing", "fail", ready_seconds=30)
    starting = asyncio.create_task(supervisor.ensure([failing], quietly))
    with pytest.raises(Exception, match="exit code 3"):
        await starting
    (described_part,) = await supervisor.status()
    assert described_part["restarts"] >= 3
    await supervisor.shutdown(quietly)


def test_descriptions_survive_being_written_and_read() -> None:
    part = toy_part("part", after=("other",), teardown=("/bin/true",))
    assert Part.from_json(part.to_json()) == part
    with pytest.raises(PartError):
        Part.from_json({"name": "part"})


def test_a_fingerprint_follows_command_environment_and_files(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    first = fingerprint_of(["run"], {"A": "1"}, [tmp_path])
    assert first == fingerprint_of(["run"], {"A": "1"}, [tmp_path])
    assert first != fingerprint_of(["run", "-v"], {"A": "1"}, [tmp_path])
    assert first != fingerprint_of(["run"], {"A": "2"}, [tmp_path])
    source.write_text("x = 2\n")
    assert first != fingerprint_of(["run"], {"A": "1"}, [tmp_path])

"""The `brixflow` command as a user types it, on a home whose parts are toys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.settings import CHECKOUT
from local.supervisor.client import start_supervisor
from tests.local.conftest import toy_part

COMMANDS = {
    "up", "down", "status", "logs", "doctor", "start", "stop", "restart", "kill", "operator", "gateway", "node-agent",
    "simulate", "rollout",
}  # fmt: skip


def brixflow(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BRIXFLOW_HOME": str(home), "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def runs(pid: int) -> bool:
    """False for one that has ended, also while its new parent has not yet taken notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home in which the parts `one` and `two` run."""
    client = start_supervisor(tmp_path)
    client.ensure([toy_part("one", "say=first\nlast"), toy_part("two", after=("one",))], lambda _event: None)
    yield tmp_path
    brixflow(tmp_path, "down")


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = brixflow(tmp_path, "--help")
    assert shown.returncode == 0
    assert {line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ")} >= COMMANDS


def test_each_command_explains_itself(tmp_path: Path) -> None:
    for command in ("up", "kill", "operator"):
        shown = brixflow(tmp_path, command, "--help")
        assert shown.returncode == 0
        assert f"brixflow {command}" in shown.stdout


def test_status_as_json_has_a_row_for_each_part(home: Path) -> None:
    shown = brixflow(home, "status", "--json")
    assert shown.returncode == 0
    one, two = json.loads(shown.stdout)["parts"]
    assert (one["name"], two["name"]) == ("one", "two")
    assert set(one) == {
        "name", "address", "state", "healthy", "reason", "pid", "uptime_seconds", "restarts", "memory_bytes",
    }  # fmt: skip
    assert one["healthy"]
    assert one["memory_bytes"] > 0


def test_status_for_people_says_why_a_part_is_not_healthy_and_fails(home: Path) -> None:
    assert brixflow(home, "kill", "two", "--hold", "5m").returncode == 0
    shown = brixflow(home, "status")
    assert shown.returncode == 1
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.split()}
    assert "healthy" in rows["one"]
    assert "killed and held down for 300 s" in rows["two"]


def test_parts_are_stopped_started_and_restarted_by_name(home: Path) -> None:
    for verb, healthy in (("stop", False), ("start", True), ("restart", True)):
        assert brixflow(home, verb, "two").returncode == 0
        assert json.loads(brixflow(home, "status", "--json").stdout)["parts"][1]["healthy"] is healthy


def test_a_wrong_name_is_one_line_that_lists_the_right_ones(home: Path) -> None:
    refused = brixflow(home, "stop", "three")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "brixflow: no part named three; there are one, two\n"


def test_logs_show_the_last_lines_of_a_part(home: Path) -> None:
    assert brixflow(home, "logs", "one", "--lines", "1").stdout == "last\n"
    refused = brixflow(home, "logs", "three")
    assert refused.returncode == 1
    assert "no log of three; there are: one, supervisor, two" in refused.stderr


def test_followed_logs_go_on(home: Path) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "logs", "-f", "-n", "1", "one"],
        env={**os.environ, "BRIXFLOW_HOME": str(home)}, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "last\n"
        with (home / "logs" / "one.log").open("a") as output:
            output.write("added\n")
        assert follower.stdout.readline() == "added\n"
    finally:
        follower.kill()
        follower.wait()


def test_a_hold_that_is_no_duration_is_refused(home: Path) -> None:
    refused = brixflow(home, "kill", "one", "--hold", "soon")
    assert refused.returncode == 2
    assert "write 60s or 2m" in refused.stderr


def test_down_ends_everything_and_says_so_only_once(home: Path) -> None:
    pids = [part["pid"] for part in json.loads(brixflow(home, "status", "--json").stdout)["parts"]]
    assert "Everything is down." in brixflow(home, "down").stdout
    assert not any(runs(pid) for pid in pids)
    assert "Nothing ran" in brixflow(home, "down").stdout
    assert (home / "logs" / "one.log").exists()


def test_purge_forgets_the_state(home: Path) -> None:
    assert brixflow(home, "down", "--purge").returncode == 0
    assert not home.exists()


def test_without_a_system_commands_say_what_starts_one(tmp_path: Path) -> None:
    for command in (("status",), ("stop", "one")):
        refused = brixflow(tmp_path, *command)
        assert refused.returncode == 1
        assert refused.stderr == f"brixflow: nothing runs under {tmp_path}: `brixflow up` starts it\n"
    assert brixflow(tmp_path / "none", "status").returncode == 1


def test_a_setting_that_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIXFLOW_GATEWAY_PORT", "eighty")
    refused = brixflow(tmp_path, "doctor")
    assert refused.returncode == 1
    assert refused.stderr.startswith("brixflow: BRIXFLOW_GATEWAY_PORT='eighty' is not a port")


def test_a_missing_cluster_or_temporal_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIXFLOW_EXT_PROC_PORT", "27990")  # the usual one is among those that clients are given
    refused = brixflow(tmp_path, "up", "--kubeconfig", str(tmp_path / "none"), "--temporal-address", "127.0.0.1:9")
    assert refused.returncode == 1
    assert refused.stderr == f"brixflow: there is no kubeconfig {tmp_path}/none\n"


def test_long_running_processes_load_nothing_of_the_interactive_commands() -> None:
    program = (
        "import sys, types\n"
        "module = types.ModuleType('workflows.process'); module.main = lambda: print(*sorted(sys.modules))\n"
        "sys.modules['workflows.process'] = module; sys.argv = ['brixflow', 'operator']\n"
        "from cli.main import main; main()\n"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert "cli.main" in names
    assert not {"typer", "rich", "cryptography", "local.up"} & names


def test_the_help_of_simulate_lists_the_flags_of_the_engine(tmp_path: Path) -> None:
    shown = brixflow(tmp_path, "simulate", "--help")
    assert shown.returncode == 0
    assert "--max-num-seqs" in shown.stdout

"""`brixflow rollout` as a user types it: against the real API server, with an operator and with Temporal or without."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.resources import PODS, PODSETS, STORM_SERVICES
from cli.cluster import ClusterRefused, parse_target
from cli.rollout_plan import with_removals
from local.control_plane_only import ControlPlane
from local.settings import CHECKOUT
from tests.workflows.rig import (
    World,
    eventually,
    operator_in_process,
    pod_template,
    role_set,
    storm_service,
    uids,
    world_in,
)
from workflows.operator import Operator

Json = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Terminal:
    """Runs commands in this process, in a thread of their own, as `python -m cli.main` would."""

    namespace: str

    async def __call__(self, *words: str) -> Ran:
        return await asyncio.to_thread(self._run, [*words, "-n", self.namespace])

    def _run(self, words: list[str]) -> Ran:
        from cli.commands import run

        out, err = io.StringIO(), io.StringIO()
        before, sys.argv = sys.argv, ["brixflow", "rollout", *words]
        code: Any = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                run()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.argv = before
        return Ran(int(code), out.getvalue(), err.getvalue())


@pytest.fixture
async def world(control_plane: ControlPlane) -> AsyncIterator[World]:
    async with world_in(control_plane.kubeconfig) as world:
        yield world


@pytest.fixture
async def operator(control_plane: ControlPlane) -> AsyncIterator[Operator]:
    async with operator_in_process(
        control_plane.settings.operator_kubeconfig, control_plane.temporal_address
    ) as operator:
        yield operator


@pytest.fixture
def rollout(world: World, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    monkeypatch.setenv("TEMPORAL_ADDRESS", control_plane.temporal_address)
    return Terminal(world.namespace)


async def rolled_out(world: World, image: str, replicas: int) -> None:
    await eventually(lambda: world.is_at("llama", image, replicas), what=f"{replicas} RoleSets at {image}")


def image_of(storm: Json) -> str:
    return str(storm["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"])


async def storm_of(world: World) -> Json:
    return await world.client.get(STORM_SERVICES, world.namespace, "llama")


async def test_a_rollout_is_foretold_followed_undone_and_remembered(
    world: World, operator: Operator, rollout: Terminal, tmp_path: Path
) -> None:
    manifest = storm_service("llama", replicas=2)
    manifest["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first release"}
    file = tmp_path / "llama.yaml"
    file.write_text(yaml.safe_dump(manifest))
    foretold = await rollout("plan", "-f", str(file))
    assert "creates 2 pods of engine" in foretold.out
    async with world.kubelet():
        await world.create(manifest)
        followed = await rollout("status", "stormservice/llama", "--watch", "--timeout", "60s")
        assert followed.code == 0
        assert followed.out.splitlines()[-1] == "stormservice/llama successfully rolled out"

        manifest["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]["containers"][0]["image"] = "engine:v2"
        file.write_text(yaml.safe_dump(manifest))
        foretold = await rollout("plan", "ss/llama", "-f", str(file))
        assert "replaces 2 pods of engine" in foretold.out
        assert "engine:v1 → engine:v2" in foretold.out
        assert image_of(await storm_of(world)) == "engine:v1"  # nothing was changed
        await world.set_image("llama", "v2")
        await rolled_out(world, "v2", 2)

        async def remembered() -> list[Json]:
            entries: list[Json] = json.loads((await rollout("history", "stormservice", "llama", "-o", "json")).out)
            return entries if entries[-1]["seconds"] else []

        first, second = await eventually(remembered, what="Temporal lists the second rollout as closed")
        assert (first["revision"], first["result"], first["source"]) == (1, "completed", "temporal")
        assert first["change_cause"] == "first release"
        assert second["is_live"]
        assert second["result"] == "completed"
        detail = await rollout("history", "ss/llama", "--revision", "2")
        assert "engine:v2" in detail.out
        assert "1 create-revision" in detail.out

        foretold = await rollout("undo", "ss/llama", "--dry-run")
        assert "replaces 2 pods of engine" in foretold.out
        assert image_of(await storm_of(world)) == "engine:v2"
        undone = await rollout("undo", "ss/llama", "--to-revision", "1")
        assert undone.out.startswith("stormservice.orchestration.aibrix.ai/llama undone: template of revision 1")
        await rolled_out(world, "v1", 2)


async def test_restart_pause_and_resume_are_edits_that_can_be_repeated(
    world: World, operator: Operator, rollout: Terminal
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await rolled_out(world, "v1", 1)
        before = uids(await world.all(PODS))
        name = "stormservice.orchestration.aibrix.ai/llama"
        assert await rollout("pause", "ss/llama") == Ran(0, f"{name} paused\n", "")
        assert await rollout("pause", "ss/llama") == Ran(0, f"{name} is paused already\n", "")
        restarted = await rollout("restart", "ss/llama", "--role", "engine")
        assert restarted.out == f"{name} restarted role engine; it is paused: resume it to roll out\n"

        async def waits() -> bool:
            return "is paused: 0 of 1 RoleSet" in (await rollout("status", "ss/llama")).out

        await eventually(waits, what="the status says that it is paused")
        assert uids(await world.all(PODS)) == before
        printed = await rollout("resume", "ss/llama", "-o", "yaml")
        assert yaml.safe_load(printed.out)["spec"]["paused"] is False

        async def replaced() -> bool:
            return not before & uids(await world.all(PODS)) and await world.is_at("llama", "v1", 1)

        await eventually(replaced)


async def test_without_temporal_and_operator_commands_edit_and_history_shows_revisions(
    world: World, operator: Operator, rollout: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.kubelet():
        await world.create(storm_service("llama"))
        await rolled_out(world, "v1", 1)
        await world.set_image("llama", "v2")
        await rolled_out(world, "v2", 1)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:9")
    shown = await rollout("history", "ss/llama", "-o", "json")
    assert "Temporal at 127.0.0.1:9 is away" in shown.err
    first, second = json.loads(shown.out)
    assert (first["revision"], first["result"]) == (1, "")
    assert (second["revision"], second["result"], second["source"]) == (2, "completed", "status")
    assert (await rollout("undo", "ss/llama")).code == 0
    assert image_of(await storm_of(world)) == "engine:v1"


async def test_a_blocked_pod_is_named_and_a_timeout_fails(world: World, operator: Operator, rollout: Terminal) -> None:
    await world.create(storm_service("llama"))

    async def pod() -> str:
        found = await world.all(PODS)
        return str(found[0]["metadata"]["name"]) if found else ""

    name = await eventually(pod)
    await world.set_pod_waiting(name, "ErrImagePull", "no such tag")
    sentence = f"pod {name}: container engine waits: ErrImagePull: no such tag"
    followed = await rollout("status", "ss/llama", "-w", "--timeout", "1s")
    assert followed.code == 1
    assert followed.err.startswith("brixflow: timed out after 1 s: stormservice/llama: 0 of 1 RoleSet")
    shown = json.loads((await rollout("status", "ss/llama", "-o", "json")).out)
    assert shown["roles"][0]["blocked"] == sentence


async def test_a_stand_alone_podset_is_restarted_and_followed(
    world: World, operator: Operator, rollout: Terminal
) -> None:
    async with world.kubelet():
        spec = {"podGroupSize": 2, "template": pod_template({"app": "group"}, "engine:v1")}
        body = {"apiVersion": PODSETS.api_version, "kind": "PodSet", "metadata": {"name": "group"}, "spec": spec}
        await world.client.create(PODSETS, world.namespace, body)
        followed = await rollout("status", "podset/group", "-w", "--timeout", "60s")
        assert followed.out.splitlines()[-1] == "podset/group successfully rolled out"
        before = uids(await world.all(PODS))
        assert "replaces 2 pods of group" in (await rollout("restart", "podset/group", "--dry-run")).out
        assert (await rollout("restart", "podset/group")).code == 0

        async def replaced() -> bool:
            pods = await world.all(PODS)
            return len(pods) == 2 and not before & uids(pods)

        await eventually(replaced, what="two new pods")
        assert (await rollout("undo", "podset/group")).err.startswith("brixflow: podset/group keeps no revisions")
        await world.delete(PODSETS, "group")
        await eventually(lambda: is_gone(world), what="the group is gone")


async def is_gone(world: World) -> bool:
    return not [*await world.all(PODSETS), *await world.all(PODS)]


async def test_a_terminal_shows_bars(world: World, rollout: Terminal) -> None:
    await world.create(storm_service("llama"))
    ours, theirs = pty.openpty()
    words = ["rollout", "status", "ss/llama", "-w", "--timeout", "1s", "-n", world.namespace]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", *words, cwd=CHECKOUT, stdout=theirs, stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    assert await process.wait() == 1
    os.set_blocking(ours, False)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert "━━━━" in drawn
    assert "waiting for the operator to observe the newest spec" in drawn
    assert "0/1 updated" in drawn


async def test_refusals_are_one_line_with_the_remedy(world: World, rollout: Terminal, tmp_path: Path) -> None:
    await world.create(role_set("pair"))
    wrong = tmp_path / "wrong.yaml"
    manifest = storm_service("llama")
    manifest["spec"]["templte"] = {}
    wrong.write_text(yaml.safe_dump(manifest))
    empty = tmp_path / "empty.yaml"
    empty.write_text("kind: ConfigMap\nmetadata: {name: x}\n")
    missing = f'"gone" not found in namespace {world.namespace}: `kubectl get stormservices -A` lists all'
    for words, said in (
        (["undo", "ss/gone"], missing),
        (["status", "ss/gone"], missing),
        (["status", "deployment/x"], "kind 'deployment' has no rollout of ours: write stormservice/NAME"),
        (["pause", "roleset/pair"], "roleset/pair has no field spec.paused; only a StormService can pause"),
        (["history", "roleset/pair"], "roleset/pair keeps no revisions"),
        (["restart", "roleset/pair", "--role", "x"], "roleset/pair has no role x; there are engine"),
        (["plan"], "there is nothing to foretell: name an object as KIND/NAME, or a manifest by -f FILE"),
        (["plan", "-f", str(empty)], "holds no StormService, RoleSet or PodSet"),
        (["plan", "-f", str(wrong)], 'unknown field "spec.templte"'),
    ):
        ran = await rollout(*words)
        assert (ran.code, ran.out) == (1, ""), words
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1
    assert (await rollout("status", "ss/llama", "--timeout", "soon")).code == 2


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["stormservice/llama"], "stormservice/llama"), (["StormServices", "llama"], "stormservice/llama"),
        (["stormservices.orchestration.aibrix.ai/llama"], "stormservice/llama"), (["ss/llama"], "stormservice/llama"),
        (["rolesets/a"], "roleset/a"), (["podset", "a"], "podset/a"),
    ],
)  # fmt: skip
def test_objects_are_named_as_in_kubectl(words: list[str], shown: str) -> None:
    assert str(parse_target(words)) == shown


@pytest.mark.parametrize("words", [["llama"], ["stormservice/"], ["stormservice", "a", "b"], ["stormservice/A B"]])
def test_what_names_no_object_is_refused(words: list[str]) -> None:
    with pytest.raises(ClusterRefused):
        parse_target(words)


def test_fields_that_left_the_manifest_are_removed_in_the_dry_run() -> None:
    last = {"spec": {"paused": True, "replicas": 2, "template": {"a": 1, "b": 2}}}
    assert with_removals(last, {"spec": {"replicas": 3, "template": {"a": 1}}}) == {
        "spec": {"paused": None, "replicas": 3, "template": {"a": 1, "b": None}}
    }

"""The container file, without a builder: what it copies is there, what it installs is whole, what it starts starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from crds.admission.sidecar import DEFAULT_IMAGE, Sidecar, injected

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "deploy" / "containers" / "Containerfile").read_text().splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = ("operator", "gateway")
ALL_TARGETS = (*TARGETS, "runtime")


def stages() -> dict[str, list[str]]:
    """The lines of each stage; the first is its FROM."""
    found: dict[str, list[str]] = {}
    for line in LINES:
        if line.startswith("FROM "):
            found[line.split()[-1]] = []
        if found:
            found[list(found)[-1]].append(line)
    return found


def copied() -> set[str]:
    return {
        name
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }  # fmt: skip


def test_what_is_copied_is_there():
    assert {name for name in copied() if not (ROOT / name).exists()} == set()


def test_every_package_of_the_project_is_copied():
    packages = {name.removesuffix("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied()


def test_stages_follow_from_one_another():
    seen: set[str] = set()
    for name, lines in stages().items():
        image = lines[0].split()[1]
        assert image in seen or re.fullmatch(r"python:\d+\.\d+-slim-\w+|debian:\w+-slim", image)
        sources = {source for line in lines for source in re.findall(r"--from=(\S+)", line)}
        assert sources <= seen
        seen.add(name)
    assert seen == {"build", "base", "envoy-build", "envoy", *ALL_TARGETS}


def test_nobody_is_root():
    assert any(re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", line) for line in stages()["base"])
    after = "\n".join(line for target in ALL_TARGETS for line in stages()[target])
    assert "USER" not in after


def test_envoys_image_holds_the_module_and_runs_as_nobody_in_particular():
    lines = "\n".join(stages()["envoy"])
    assert "libbrixflow.so" in lines
    assert "/usr/local/bin/envoy" in lines
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", lines, re.MULTILINE)


def command(target: str) -> list[str]:
    found = stages()
    entry = next(line for line in [*found[target], *found["base"]] if line.startswith("ENTRYPOINT "))
    arguments = next(line for line in found[target] if line.startswith("CMD "))
    return [*json.loads(entry.removeprefix("ENTRYPOINT ")), *json.loads(arguments.removeprefix("CMD "))]


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_what_a_target_starts_is_a_command_of_ours(target):
    program, *arguments = command(target)
    module, _, _ = PROJECT["project"]["scripts"][program].partition(":")
    shown = subprocess.run(
        [sys.executable, "-m", module, *arguments, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert (f"brixflow {target}" if target in TARGETS else program) in shown.stdout


def test_an_injected_sidecar_starts_as_its_image_does():
    pod = injected({"spec": {"containers": [{"name": "engine", "image": "vllm/vllm-openai"}]}}, Sidecar(DEFAULT_IMAGE))
    assert pod["spec"]["containers"][0]["command"] == command("runtime")
    manifest = yaml.safe_load((ROOT / "deploy" / "workloads" / "operator.yaml").read_text())
    variables = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "BRIXFLOW_RUNTIME_IMAGE", "value": "brixflow/runtime:latest"} in variables


@pytest.mark.parametrize("target", TARGETS)
def test_the_deployment_starts_its_target_with_the_same_arguments(target):
    manifest = yaml.safe_load((ROOT / "deploy" / "workloads" / f"{target}.yaml").read_text())
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["image"].partition(":")[0] == f"brixflow/{target}"
    assert "command" not in container
    assert container["args"] == command(target)[1:]

"""The module's declarations against the pinned Envoy: its binary tells names, its abi.h, where it can be had, types."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from csrc import module
from csrc.build_binding import ROOM

PINNED = next((Path(sys.prefix) / "lib").glob("python*/site-packages/envoy/_bin/envoy"))
ENVOY = Path(os.environ.get("BRIXFLOW_TEST_ENVOY") or PINNED)
GO = Path(sys.executable).parent / "go"
HEADER = "source/extensions/dynamic_modules/abi/abi.h"
PREFIX = "envoy_dynamic_module_"
CALLBACK = re.compile(rf"\b{PREFIX}callback_\w+")
HOOK = re.compile(rb"\0(envoy_dynamic_module_on_(?:http_filter|program)_\w+)\0")


def symbols(library: Path, *options: str) -> set[str]:
    listed = subprocess.run(["nm", "-D", *options, library], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in listed.splitlines() if PREFIX in line}


def version() -> str:
    told = subprocess.run([ENVOY, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"/(\d+\.\d+\.\d+)/", told)
    assert found, told
    return found[1]


def test_every_hook_that_envoy_looks_up_is_there() -> None:
    looked_up = {name.decode() for name in HOOK.findall(ENVOY.read_bytes())}
    assert len(looked_up) > 20
    assert looked_up <= symbols(module.FILE, "--defined-only")


def test_every_callback_that_the_module_calls_is_in_envoy() -> None:
    called = symbols(module.FILE, "--undefined-only")
    assert called
    assert called <= symbols(ENVOY, "--defined-only")


def test_the_version_is_the_one_that_the_pinned_envoy_asks_for() -> None:
    told = re.search(r'#define ENVOY_ABI_VERSION "([^"]+)"', (ROOM / "module_abi.h").read_text())
    assert told
    assert b"\0" + told[1].encode() + b"\0" in PINNED.read_bytes()


def shapes(text: str) -> dict[str, list[str]]:
    """Return type and parameters of each function of the interface, each as what it is in a register."""
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).replace("ENVOY_HOOK", " ")
    functions = re.finditer(rf"([\w*\s]+?)\b({PREFIX}(?:on|callback)_\w+)\s*\(([^)]*)\)\s*;", plain)
    return {
        name: [kind(result), *map(kind, given.split(","))] for result, name, given in map(re.Match.groups, functions)
    }


def kind(parameter: str) -> str:
    words = re.sub(r"\b(const|struct|enum)\b", " ", parameter).split()
    type_ = " ".join(words[:1] if "*" not in parameter else ["*"])
    if type_.endswith("_ptr") or type_ == "*":
        return "pointer"
    if type_ in ("envoy_text", f"{PREFIX}type_envoy_buffer", f"{PREFIX}type_module_buffer"):
        return "text"
    return "int" if type_.startswith(f"{PREFIX}type_") else type_


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """abi.h of the pinned Envoy, out of its Go module."""
    folder = tmp_path_factory.mktemp("envoy")
    (folder / "go.mod").write_text("module abi\n\ngo 1.22\n")
    command = [GO, "mod", "download", "-json", f"github.com/envoyproxy/envoy@v{version()}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    told = json.loads(done.stdout or "{}")
    if "Dir" not in told:
        pytest.skip(f"Envoy's Go module cannot be had here: {told.get('Error', done.stderr)[-200:]}")
    return (Path(told["Dir"]) / HEADER).read_text()


def test_our_declarations_have_the_types_of_envoys_header(published: str) -> None:
    theirs, ours = shapes(published), shapes((ROOM / "module_abi.h").read_text())
    assert len(ours) > 40
    assert {name: theirs.get(name) for name in ours} == ours


def test_declarations_are_compared_by_kind() -> None:
    theirs = """
    /** Says f(x); in a comment. */
    envoy_dynamic_module_type_http_filter_module_ptr envoy_dynamic_module_on_a(
        envoy_dynamic_module_type_http_filter_envoy_ptr filter, uint64_t id,
        const envoy_dynamic_module_type_envoy_buffer* data, envoy_dynamic_module_type_envoy_buffer name);
    bool envoy_dynamic_module_callback_b(envoy_dynamic_module_type_http_header_type type, size_t* size);
    """
    ours = """
    ENVOY_HOOK const void *envoy_dynamic_module_on_a(void *host, uint64_t id, const envoy_text *data, envoy_text name);
    bool envoy_dynamic_module_callback_b(int map, size_t *count);
    """
    assert (
        shapes(theirs)
        == shapes(ours)
        == {
            "envoy_dynamic_module_on_a": ["pointer", "pointer", "uint64_t", "pointer", "text"],
            "envoy_dynamic_module_callback_b": ["bool", "int", "pointer"],
        }
    )
    assert shapes(ours.replace("uint64_t id", "uint32_t id")) != shapes(theirs)

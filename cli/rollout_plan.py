"""`rollout plan`: what applying a manifest or an undo would replace.

The manifest goes through the API server as a dry run, with defaults, validation and admission, in the way in which the
object has been applied so far: client-side apply (fields that were removed from the file are removed) where its
annotation stands, else server-side apply.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from activities.edits import foretell
from activities.errors import KubeNotFound
from activities.family import KINDS, Family, family_of
from activities.kube import MERGE_PATCH, path_of
from cli.cluster import Cluster, ClusterRefused, Target, Where, connected, parse_target
from cli.rollout_tables import console, forecast_lines, printed
from planning.forecast import Forecast
from planning.planner import Json

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
APPLY_PATCH = "application/apply-patch+yaml"
KUBECTL = "kubectl"
"""The field manager of `kubectl apply --server-side`."""


async def plan(
    words: list[str], where: Where, *, file: Path | None, to_revision: int | None, values: bool, output: str | None
) -> int:
    target = parse_target(words) if words else None
    if target is None and file is None:
        raise ClusterRefused("there is nothing to foretell: name an object as KIND/NAME, or a manifest by -f FILE")
    if file is not None and to_revision is not None:
        raise ClusterRefused("-f and --to-revision are two different changes: pass one of them")
    manifests = _manifests(file, target) if file is not None else []
    async with connected(where) as cluster:
        if target is not None and not manifests:
            found = [await _of_object(cluster, target, to_revision, values=values)]
        else:
            found = [await _of_manifest(cluster, manifest, where, values=values) for manifest in manifests]
    if not printed(found[0] if len(found) == 1 else found, output):
        for each in found:
            console().print(forecast_lines(each))
    return int(any(each.fault for each in found))


async def _of_object(cluster: Cluster, target: Target, to_revision: int | None, *, values: bool) -> Forecast:
    family = await family_of(cluster.client, await cluster.get(target))
    found = foretell(family, "" if to_revision is None else "undo", to_revision or 0, values=values)
    if found.forecast is None:
        raise ClusterRefused(found.refused)
    return found.forecast


async def _of_manifest(cluster: Cluster, manifest: Json, where: Where, *, values: bool) -> Forecast:
    metadata = manifest["metadata"]
    if where.namespace and metadata.get("namespace", where.namespace) != where.namespace:
        raise ClusterRefused(f"{metadata['name']} is of namespace {metadata['namespace']}, not of {where.namespace}")
    cluster = Cluster(cluster.client, metadata.get("namespace") or cluster.namespace)
    target = Target(manifest["kind"].lower(), metadata["name"])
    manifest = {**manifest, "metadata": {**metadata, "namespace": cluster.namespace}}
    try:
        live = await cluster.client.get(target.resource, cluster.namespace, target.name)
    except KubeNotFound as error:
        if error.about != target.name:
            raise
        wanted = await _dry_run(cluster, target, manifest, "POST", "application/json")
        return Family({**wanted, "status": {}}).forecast(values=values)
    family = await family_of(cluster.client, live)
    return family.forecast(await _applied(cluster, target, manifest, live), values=values)


async def _applied(cluster: Cluster, target: Target, manifest: Json, live: Json) -> Json:
    last = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if last is None:
        return await _dry_run(cluster, target, manifest, "PATCH", APPLY_PATCH)
    return await _dry_run(cluster, target, with_removals(json.loads(last), manifest), "PATCH", MERGE_PATCH)


def with_removals(last: Any, manifest: Any) -> Any:
    """The manifest as a JSON merge patch that also removes what the last applied one had and this one lacks."""
    if not (isinstance(last, dict) and isinstance(manifest, dict)):
        return manifest
    gone = {key: None for key in last if key not in manifest}
    return gone | {key: with_removals(last.get(key), value) for key, value in manifest.items()}


async def _dry_run(cluster: Cluster, target: Target, body: Json, method: str, content_type: str) -> Json:
    params = {"dryRun": "All", "fieldManager": KUBECTL, "fieldValidation": "Strict"}
    if content_type == APPLY_PATCH:
        params["force"] = "true"
    name = None if method == "POST" else target.name
    path = path_of(target.resource, cluster.namespace, name)
    return await cluster.client.call(method, path, body=body, params=params, content_type=content_type)


def _manifests(file: Path, target: Target | None) -> list[Json]:
    """The objects of the file that can be rolled out; only `target` where one is named."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
    except (OSError, yaml.YAMLError) as error:
        raise ClusterRefused(f"{file}: {error}") from None
    objects = [item for each in documents for item in (each.get("items") or [each])]
    found = [each for each in objects if _can_roll(each)]
    if target is not None:
        found = [
            each for each in found if (each["kind"].lower(), each["metadata"]["name"]) == (target.kind, target.name)
        ]
    if not found:
        raise ClusterRefused(f"{file} holds no {target or 'StormService, RoleSet or PodSet'}")
    return found


def _can_roll(manifest: Json) -> bool:
    return str(manifest.get("kind", "")).lower() in KINDS and bool((manifest.get("metadata") or {}).get("name"))

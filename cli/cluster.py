"""The cluster that a command talks to, and the object it is about, found as kubectl would find them."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio.config import list_kube_config_contexts
from kubernetes.aio.config.config_exception import ConfigException

from activities.credentials import Credentials
from activities.errors import KubeError, KubeNotFound
from activities.family import KINDS
from activities.kube import KubeClient
from local.errors import LocalError
from local.settings import LocalSettings
from planning.planner import Json, Resource

NAMES = {
    "stormservice": "stormservice", "stormservices": "stormservice", "storm": "stormservice", "ss": "stormservice",
    "roleset": "roleset", "rolesets": "roleset", "rset": "roleset",
    "podset": "podset", "podsets": "podset", "pset": "podset",
}  # fmt: skip
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
DEFAULT_KUBECONFIG = Path("~/.kube/config")


class ClusterRefused(LocalError):  # noqa: N818 - it is printed as one line
    """The cluster cannot be reached or refuses; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Where:
    """The options that say which cluster: each empty one falls back as kubectl's would."""

    namespace: str = ""
    kubeconfig: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """`stormservice/llama`."""

    kind: str
    name: str

    @property
    def resource(self) -> Resource:
        return KINDS[self.kind]

    @property
    def shown(self) -> str:
        """As kubectl prints it: `stormservice.orchestration.aibrix.ai/llama`."""
        return f"{self.kind}.{self.resource.group}/{self.name}"

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def parse_target(words: list[str]) -> Target:
    """From `KIND/NAME` or `KIND NAME`. Raises ClusterRefused."""
    text = "/".join(words)
    kind, slash, name = text.partition("/")
    known = NAMES.get(kind.lower().partition(".")[0])
    if known is None:
        raise ClusterRefused(
            f"kind {kind!r} has no rollout of ours: write stormservice/NAME, roleset/NAME or podset/NAME"
        )
    if not slash or not _NAME.fullmatch(name):
        raise ClusterRefused(f"{text!r} names no object: write {known}/NAME")
    return Target(known, name)


def kubeconfig_of(where: Where) -> str:
    """The option, KUBECONFIG, the system that `brixflow up` has started here, then kubectl's own file."""
    if given := where.kubeconfig or os.environ.get("KUBECONFIG", ""):
        return given
    local = LocalSettings.from_environment().kubeconfig
    found = local if local.exists() else DEFAULT_KUBECONFIG.expanduser()
    if not found.exists():
        raise ClusterRefused("there is no kubeconfig: pass --kubeconfig, set KUBECONFIG, or start one by `brixflow up`")
    return str(found)


def namespace_of(where: Where, kubeconfig: str) -> str:
    """The option, the context's namespace, then `default`. Raises ClusterRefused."""
    if where.namespace:
        return where.namespace
    try:
        contexts, active = list_kube_config_contexts(kubeconfig)  # type: ignore[no-untyped-call] # has no annotations
    except ConfigException as error:
        raise ClusterRefused(f"kubeconfig {kubeconfig}: {error}") from None
    if where.context:
        active = next((each for each in contexts if each["name"] == where.context), None)
        if active is None:
            raise ClusterRefused(f"kubeconfig {kubeconfig} has no context {where.context}")
    return str((active or {}).get("context", {}).get("namespace") or "default")


@dataclass(frozen=True, slots=True)
class Cluster:
    client: KubeClient
    namespace: str

    async def get(self, target: Target) -> Json:
        """Raises ClusterRefused when there is none of that name."""
        try:
            return await self.client.get(target.resource, self.namespace, target.name)
        except KubeNotFound:
            raise self.missing(target) from None

    def missing(self, target: Target) -> ClusterRefused:
        plural = f"{target.resource.plural}.{target.resource.group}"
        return ClusterRefused(
            f'{plural} "{target.name}" not found in namespace {self.namespace}: '
            f"`kubectl get {target.resource.plural} -A` lists all"
        )


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What the API server refuses becomes a message for people."""
    try:
        yield
    except KubeError as error:
        raise ClusterRefused(str(error)) from None


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[Cluster]:
    """A client for the time of one command."""
    kubeconfig = kubeconfig_of(where)
    namespace = namespace_of(where, kubeconfig)
    client = KubeClient(Credentials(kubeconfig, context=where.context or None))
    try:
        with one_line_errors():
            yield Cluster(client, namespace)
    except ConfigException as error:
        raise ClusterRefused(f"kubeconfig {kubeconfig}: {error}") from None
    finally:
        await client.close()


def as_dict(value: Any) -> Any:
    """Plain data of one of our wire types, or of a list of them."""
    if isinstance(value, list):
        return [as_dict(each) for each in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value

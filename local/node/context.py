"""What all pods of the node share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from local.node.addresses import AddressPool
from local.node.api import ApiClient
from local.node.environment import NodeFacts
from local.node.images import ImageTable
from local.node.objects import ObjectSource
from local.node.recorder import EventRecorder
from local.node.settings import NodeSettings


@dataclass(frozen=True)
class NodeContext:
    """The node's parts, handed to each pod."""

    settings: NodeSettings
    api: ApiClient
    images: ImageTable
    objects: ObjectSource
    events: EventRecorder
    addresses: AddressPool
    facts: NodeFacts
    shim_program: Path
    launches: asyncio.Semaphore  # sandboxes made at the same time
    root_in_memory: bool  # overlay cannot keep its files under the home
    cluster_dns: str | None = None  # the address that answers names of the cluster

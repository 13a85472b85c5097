"""Pods that outlive their RoleSet: deleted without them, made again under the same name."""

from __future__ import annotations

from activities.kube import path_of
from activities.resources import PODS, ROLESETS
from tests.workflows.node import PaperNode
from tests.workflows.rig import World, eventually, role_set, uids
from workflows.operator import Operator


async def test_an_orphaned_pod_serves_on_and_is_taken_back(world: World, operator: Operator) -> None:
    async with PaperNode(world).running():
        await world.create(role_set("pair", replicas=2))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
        before = uids(await world.all(PODS))
        path = path_of(ROLESETS, world.namespace, "pair")
        await world.client.call("DELETE", path, body={"propagationPolicy": "Orphan"})

        async def is_gone() -> bool:
            return await world.get(ROLESETS, "pair") is None

        await eventually(is_gone)
        assert uids(await world.all(PODS)) == before
        again = await world.create(role_set("pair", replicas=2))
        await eventually(lambda: world.is_ready("pair", ROLESETS))
    pods = await world.all(PODS)
    assert uids(pods) == before
    assert {owner["uid"] for pod in pods for owner in pod["metadata"]["ownerReferences"]} == {again["metadata"]["uid"]}

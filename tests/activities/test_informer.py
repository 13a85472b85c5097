"""The cache equals the API server: through deletes, gaps, expired versions and silent watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from activities.informer import Informer
from activities.kube import KubeClient
from activities.resources import ROLESETS
from activities.store import Cache, Store
from planning.wire import ObjectVersion
from tests.workflows.rig import World, eventually, role_set


@asynccontextmanager
async def informer_on(world: World, **options: Any) -> AsyncIterator[tuple[Informer, Store, asyncio.Task[None]]]:
    store = Cache([ROLESETS]).stores[ROLESETS.key]
    informer = Informer(world.client, store, namespace=world.namespace, **options)
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(store.synced.wait(), 10)
        yield informer, store, task
    finally:
        task.cancel()


async def test_objects_come_change_and_go(world: World) -> None:
    await world.create(role_set("early"))
    async with informer_on(world) as (_, store, _task):
        assert store.get(world.namespace, "early") is not None
        made = await world.create(role_set("late"))

        async def has_both() -> bool:
            return len(store) == 2

        await eventually(has_both, 5)
        assert "managedFields" not in store.by_uid(made["metadata"]["uid"])["metadata"]  # type: ignore[index]
        await world.delete(ROLESETS, "early")

        async def has_one() -> bool:
            return store.get(world.namespace, "early") is None

        await eventually(has_one, 5)


async def test_what_was_deleted_while_nobody_watched_is_removed_by_the_next_list(world: World) -> None:
    await world.create(role_set("lost"))
    async with informer_on(world) as (informer, store, task):
        task.cancel()
        await world.delete(ROLESETS, "lost")
        await world.create(role_set("kept"))
        informer._version = ""
        again = asyncio.create_task(informer.run())

        async def is_equal() -> bool:
            return store.get(world.namespace, "lost") is None and store.get(world.namespace, "kept") is not None

        await eventually(is_equal, 5)
        assert store.relists == 1
        again.cancel()


async def test_an_expired_version_leads_to_a_list(world: World) -> None:
    async with informer_on(world) as (informer, store, task):
        task.cancel()
        await world.create(role_set("unseen"))
        informer._version = "1"
        again = asyncio.create_task(informer.run())

        async def has_it() -> bool:
            return store.get(world.namespace, "unseen") is not None

        await eventually(has_it, 10)
        assert store.relists == 1
        again.cancel()


async def test_a_silent_watch_is_given_up_and_listed_again(world: World) -> None:
    async with informer_on(world, silence_seconds=0.5) as (_, store, _task):

        async def has_relisted() -> bool:
            return store.relists >= 1

        await eventually(has_relisted, 10)


async def test_an_unreachable_server_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = KubeClient.call, 2

    async def flaky(self: KubeClient, *args: Any, **kwargs: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            kwargs["deadline"] = 0.0
            return await real(self, "GET", "/apis/no-such-group/v1/things")
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(KubeClient, "call", flaky)
    async with informer_on(world) as (_, store, _task):
        assert store.synced.is_set()


def obj(version: int, uid: str = "u", owner: str = "", name: str = "a") -> dict[str, Any]:
    owners = [{"uid": owner, "controller": True}] if owner else []
    metadata = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version), "ownerReferences": owners}
    return {"metadata": metadata}


def test_an_older_version_never_replaces_a_newer_one() -> None:
    store = Store(ROLESETS, lambda _: None)
    store.put(obj(5))
    store.put(obj(4))
    assert store.by_uid("u") == obj(5)


def test_a_change_wakes_the_object_and_its_controller_old_and_new() -> None:
    woken: list[str] = []
    store = Store(ROLESETS, woken.append)
    store.put(obj(1, owner="first"))
    store.put(obj(2, owner="second"))
    assert set(woken) == {"u", "first", "second"}
    assert list(store.owned_by("first")) == []
    assert list(store.owned_by("second")) == [obj(2, owner="second")]


def test_a_name_taken_by_another_uid_removes_the_first() -> None:
    store = Store(ROLESETS, lambda _: None)
    store.put(obj(1, uid="one", owner="o"))
    store.put(obj(2, uid="two", owner="o"))
    assert store.by_uid("one") is None
    assert len(store.owned_by("o")) == 1


def test_a_written_version_is_seen_once_it_or_a_later_one_or_its_deletion_is_known() -> None:
    store = Store(ROLESETS, lambda _: None)
    written = ObjectVersion(kind="RoleSet", name="a", uid="u", resource_version="5")
    deleted = ObjectVersion(kind="RoleSet", name="a", uid="u", deleted=True)
    assert not store.has_seen(written)
    store.put(obj(4))
    assert not store.has_seen(written)
    assert not store.has_seen(deleted)
    store.put(obj(5))
    assert store.has_seen(written)
    store.remove(obj(5))
    assert store.has_seen(deleted)
    store.replace([], 9)
    assert store.has_seen(written)


def test_the_answer_to_our_own_write_never_brings_a_deleted_object_back() -> None:
    store = Store(ROLESETS, lambda _: None)
    store.put(obj(1))
    store.remove(obj(2))
    store.put_own(obj(3))
    assert len(store) == 0

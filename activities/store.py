"""What the operator knows of one kind: the objects as the API server last sent them, indexed by name and by controller.

    watch ──► put / remove ──► by_uid, by_name, by_owner ──► changed(uid) of the object and of its controller
    list  ──► replace      ──► the difference, as puts and removes

Objects are shared with every reader and never changed in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from activities.kube import version_number
from crds import labels
from planning.planner import Json, Resource
from planning.wire import ObjectVersion


def controller_of(obj: Json) -> str:
    """The uid of the object's controller, empty without one."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def owner_key(obj: Json) -> str:
    """The uid of the controller; without one `<namespace>/<name>` of the owner that the object was made for."""
    if owner := controller_of(obj):
        return owner
    metadata = obj["metadata"]
    carried = metadata.get("labels") or {}
    nearest = carried.get(labels.ROLESET_NAME) or carried.get(labels.STORM_SERVICE_NAME)
    made_for = nearest or carried.get(labels.NAME) or metadata["name"]
    return f"{metadata.get('namespace', '')}/{made_for}"


class Store:
    """All objects of `resource` that the informer has seen.

    `changed` is called with the uid of a changed object and with its `owner_key`, `added` with each object that is new.
    `seen` is the resourceVersion up to which everything is known; `relists` counts lists after the first.
    `served` is false while the API server does not know an optional kind; `served_changed` is called when that changes.
    """

    def __init__(self, resource: Resource, changed: Callable[[str], None]) -> None:
        self.resource = resource
        self.added: Callable[[Json], None] | None = None
        self.seen = 0
        self.relists = -1
        self.served = not resource.optional
        self.served_changed: Callable[[], None] = lambda: None
        self.synced = asyncio.Event()
        self._changed = changed
        self._by_uid: dict[str, Json] = {}
        self._by_name: dict[tuple[str, str], Json] = {}
        self._by_owner: dict[str, dict[str, Json]] = {}

    def __len__(self) -> int:
        return len(self._by_uid)

    def get(self, namespace: str, name: str) -> Json | None:
        return self._by_name.get((namespace, name))

    def by_uid(self, uid: str) -> Json | None:
        return self._by_uid.get(uid)

    def owned_by(self, uid: str) -> Sequence[Json]:
        return list(self._by_owner.get(uid, {}).values())

    def ownerless(self, namespace: str, name: str) -> Sequence[Json]:
        """Objects without a controller that were made for an owner of that name, or have the name."""
        return self.owned_by(f"{namespace}/{name}")

    def objects(self) -> Sequence[Json]:
        return list(self._by_uid.values())

    def put(self, obj: Json) -> None:
        """Take an object from a watch or a list; an older version than the known one is ignored."""
        metadata = obj["metadata"]
        uid = metadata["uid"]
        known = self._by_uid.get(uid)
        if known is not None and version_number(known) >= version_number(obj):
            return
        namesake = self._by_name.get((metadata.get("namespace", ""), metadata["name"]))
        if namesake is not None and namesake["metadata"]["uid"] != uid:
            self.remove(namesake)
        self._index(obj, known)
        self._notify(obj)
        if known is None and self.added is not None:
            self.added(obj)

    def put_own(self, obj: Json) -> None:
        """Take the answer to our own write, ahead of the watch: only for an object known and not yet deleted."""
        if obj["metadata"]["uid"] in self._by_uid:
            self.put(obj)

    def remove(self, obj: Json) -> None:
        known = self._by_uid.pop(obj["metadata"]["uid"], None)
        if known is None:
            return
        metadata = known["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if self._by_name.get(key) is known:
            del self._by_name[key]
        self._unindex_owner(known)
        self._notify(known)

    def replace(self, objects: Iterable[Json], version: int) -> None:
        """Take a whole list: whatever is missing in it was deleted while nobody watched."""
        present = set()
        for obj in objects:
            present.add(obj["metadata"]["uid"])
            self.put(obj)
        for uid in [uid for uid in self._by_uid if uid not in present]:
            self.remove(self._by_uid[uid])
        self.seen = max(self.seen, version)
        self.relists += 1
        self.synced.set()
        self._serve(True)

    def absent(self) -> None:
        """The API server does not serve the kind: nothing of it exists, and there is nothing to wait for."""
        for uid in list(self._by_uid):
            self.remove(self._by_uid[uid])
        self.synced.set()
        self._serve(False)

    def _serve(self, served: bool) -> None:
        if served != self.served:
            self.served = served
            self.served_changed()

    def has_seen(self, written: ObjectVersion) -> bool:
        """True once this store knows `written`, a later version, or its deletion."""
        version = int(written.resource_version) if written.resource_version.isdigit() else 0
        if version and self.seen >= version:
            return True
        known = self._by_uid.get(written.uid)
        if known is None:
            return written.deleted
        if written.deleted and "deletionTimestamp" in known["metadata"]:
            return True
        return not written.deleted and version_number(known) >= version

    def _index(self, obj: Json, known: Json | None) -> None:
        metadata = obj["metadata"]
        if known is not None and owner_key(known) != owner_key(obj):
            self._unindex_owner(known)
            self._notify(known)
        self._by_uid[metadata["uid"]] = obj
        self._by_name[(metadata.get("namespace", ""), metadata["name"])] = obj
        self._by_owner.setdefault(owner_key(obj), {})[metadata["uid"]] = obj

    def _unindex_owner(self, obj: Json) -> None:
        owner = owner_key(obj)
        children = self._by_owner.get(owner, {})
        children.pop(obj["metadata"]["uid"], None)
        if not children:
            self._by_owner.pop(owner, None)

    def _notify(self, obj: Json) -> None:
        self._changed(obj["metadata"]["uid"])
        self._changed(owner_key(obj))


class Cache:
    """The stores of all watched kinds, and who wants to know about changes."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.stores = {resource.key: Store(resource, self._wake) for resource in resources}
        self._listeners: dict[str, set[asyncio.Event]] = {}
        for store in self.stores.values():
            store.served_changed = self.wake_all

    def ownerless(self, namespace: str, name: str, resources: Iterable[Resource]) -> dict[str, Sequence[Json]]:
        return {resource.key: self.stores[resource.key].ownerless(namespace, name) for resource in resources}

    def listen(self, uid: str, event: asyncio.Event) -> None:
        """Set `event` whenever the object `uid` or one of its children changes."""
        self._listeners.setdefault(uid, set()).add(event)

    def unlisten(self, uid: str, event: asyncio.Event) -> None:
        events = self._listeners.get(uid, set())
        events.discard(event)
        if not events:
            self._listeners.pop(uid, None)

    def wake_all(self) -> None:
        for uid in list(self._listeners):
            self._wake(uid)

    def children(self, uid: str, resources: Iterable[Resource]) -> dict[str, Sequence[Json]]:
        """By resource key; a kind that the API server does not serve is left out."""
        stores = [self.stores[resource.key] for resource in resources]
        return {store.resource.key: store.owned_by(uid) for store in stores if store.served}

    async def wait_synced(self) -> None:
        for store in self.stores.values():
            await store.synced.wait()

    @property
    def unsynced(self) -> list[str]:
        return [key for key, store in self.stores.items() if not store.synced.is_set()]

    def unseen(self, written: Iterable[ObjectVersion]) -> list[ObjectVersion]:
        """Those of `written` that the cache does not know yet."""
        return [each for each in written if self._behind(each)]

    def _behind(self, written: ObjectVersion) -> bool:
        store = self.stores.get(written.kind.lower())
        return store is not None and not store.has_seen(written)

    def _wake(self, uid: str) -> None:
        for event in self._listeners.get(uid, ()):
            event.set()


def object_version(obj: dict[str, Any], kind: str, *, deleted: bool = False) -> ObjectVersion:
    metadata = obj["metadata"]
    return ObjectVersion(
        kind=kind,
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version="" if deleted else str(metadata.get("resourceVersion", "")),
        deleted=deleted,
    )

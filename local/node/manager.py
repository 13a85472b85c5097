"""Watches the pods bound to this node and keeps one worker for each."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import aiohttp

from local.node.api import ApiError, WatchExpiredError
from local.node.context import NodeContext
from local.node.files import Json, read_json
from local.node.pod import PodWorker
from local.node.pod_state import load_pod
from local.node.shim import kill_shim

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


class PodManager:
    """All pods of the node."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._folder = context.settings.directory / "pods"
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{context.settings.name}"
        self.synced = asyncio.Event()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name."""
        for worker in self._workers.values():
            metadata = worker.state.pod["metadata"]
            if metadata["name"] == name and metadata["namespace"] == namespace:
                return worker
        return None

    def pods(self) -> list[Json]:
        """All pods as last seen."""
        return [worker.state.pod for worker in self._workers.values()]

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._claim_addresses()
        while True:
            try:
                await self._list_and_watch()
            except WatchExpiredError:
                log.info("pods_relist reason=expired")
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("pods_watch_broken error=%r", error)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _list_and_watch(self) -> None:
        listed = await self._context.api.get(self._path)
        self._replace(listed["items"])
        self.synced.set()
        version = listed["metadata"]["resourceVersion"]
        while True:
            async for event in self._context.api.watch(self._path, version):
                version = event["object"]["metadata"]["resourceVersion"]
                self._apply(event["type"], event["object"])

    def _replace(self, pods: list[Json]) -> None:
        for pod in pods:
            self._apply("MODIFIED", pod)
        present = {pod["metadata"]["uid"] for pod in pods}
        for uid, worker in list(self._workers.items()):
            if uid not in present:
                worker.vanish()
        for folder in self._folder.iterdir():
            if folder.name not in present and folder.name not in self._workers:
                self._end_stranger(folder)

    def _apply(self, kind: str, pod: Json) -> None:
        if kind == "BOOKMARK":
            return
        worker = self._workers.get(pod["metadata"]["uid"])
        if kind == "DELETED":
            if worker:
                worker.vanish()
        elif worker:
            worker.update(pod)
        else:
            self._adopt(pod)

    def _adopt(self, pod: Json) -> PodWorker:
        worker = PodWorker(load_pod(pod, self._folder), self._context)
        uid = pod["metadata"]["uid"]
        self._workers[uid] = worker
        task = asyncio.create_task(worker.run())
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._ended(uid, done))
        worker.update(pod)
        return worker

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        if not task.cancelled() and task.exception():
            log.error("pod_worker_failed uid=%s", uid, exc_info=task.exception())

    def _end_stranger(self, folder: Path) -> None:
        """A pod whose object went while the agent was away."""
        pod = read_json(folder / "pod.json")
        log.info("pod_vanished uid=%s", folder.name)
        if pod:
            self._adopt(pod).vanish()
        else:
            kill_shim(folder)
            shutil.rmtree(folder, ignore_errors=True)

    def _claim_addresses(self) -> None:
        for folder in self._folder.iterdir():
            saved = read_json(folder / "state.json") or {}
            if saved.get("address") and not saved.get("finished"):
                self._context.addresses.claim(saved["address"], folder.name)

    async def refresh_volumes(self) -> None:
        """Keeps mounted ConfigMaps, Secrets and tokens up to date until cancelled."""
        while True:
            await asyncio.sleep(self._context.settings.volume_refresh_seconds)
            for worker in list(self._workers.values()):
                await worker.refresh_volumes()
            self._context.objects.forget()

    async def close(self) -> None:
        """Lets go of all pods; their containers run on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""What outlives what: the agent, the shims, the machine's processes and the objects."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from local.node.machine import check_machine
from local.node.sandbox import veth_name
from local.node.shim import find_shim
from local.node.teardown import teardown
from tests.node.rig import Pods, container, is_ready, is_running, restarts, until_true

MANY = 50


async def test_a_killed_agent_leaves_its_pods_running_and_finds_them_again(pods: Pods) -> None:
    await pods.run("stays", "sleep", "1000")
    await pods.run("ends", "sh", "-c", "sleep 2; exit 5", spec={"restartPolicy": "Never"})
    before = await pods.until("stays", is_ready)
    await pods.until("ends", is_running)
    shim = pods.agent.shim_pid(before)
    pods.agent.kill()
    await asyncio.sleep(2.5)
    pods.agent.start()
    ended = await pods.until("ends", lambda pod: pod["status"]["phase"] == "Failed")
    assert container(ended)["state"]["terminated"]["exitCode"] == 5
    after = await pods.get("stays")
    assert pods.agent.shim_pid(after) == shim
    assert container(after) == container(before)
    assert (await asyncio.to_thread(pods.kubectl, "exec", "stays", "--", "echo", "here")).strip() == "here"


async def test_agents_killed_at_any_moment_start_each_container_once(pods: Pods) -> None:
    for at in range(6):
        await pods.run(f"quick-{at}", "sleep", "1000")
        await asyncio.sleep(0.03 * at)
        pods.agent.kill()
        pods.agent.start()
    for at in range(6):
        pod = await pods.until(f"quick-{at}", is_ready)
        assert restarts(pod) == 0


async def test_pods_start_again_under_the_same_object_after_their_processes_are_gone(pods: Pods) -> None:
    init = [{"name": "first", "image": "busybox", "command": ["true"]}]
    await pods.run("again", "sleep", "1000", spec={"initContainers": init})
    before = await pods.until("again", is_ready)
    os.kill(pods.agent.shim_pid(before), signal.SIGKILL)
    after = await pods.until("again", lambda pod: restarts(pod) == 1 and is_ready(pod))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert container(after, "first")["restartCount"] == 1
    assert container(after)["lastState"]["terminated"]["exitCode"] == 255


async def test_a_pod_whose_object_went_meanwhile_is_ended(pods: Pods) -> None:
    await pods.run("gone", "sleep", "1000")
    pod = await pods.until("gone", is_ready)
    folder = pods.agent.pod_folder(pod)
    shim = find_shim(folder)
    pods.agent.stop()
    await pods.delete("gone", gracePeriodSeconds=0)
    pods.agent.start()
    await until_true(lambda: not folder.exists())
    assert shim
    assert not shim.is_alive()


async def test_down_leaves_nothing_and_up_starts_the_same_pods(pods: Pods) -> None:
    settings = pods.agent.settings
    await pods.run("kept", "sleep", "1000")
    before = await pods.until("kept", is_ready)
    shim = find_shim(pods.agent.pod_folder(before))
    pods.agent.stop()
    await asyncio.to_thread(teardown, settings)
    assert shim
    assert not shim.is_alive()
    assert not links(settings.bridge)
    assert not links(veth_name(settings.bridge, "")[:6])
    pods.agent.start()
    after = await pods.until("kept", lambda pod: restarts(pod) == 1 and is_ready(pod))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_pods_go_on_with_their_counts_when_the_agents_state_is_lost(pods: Pods) -> None:
    await pods.run("kept", "sleep", "1000")
    before = await pods.until("kept", is_ready)
    pods.agent.stop()
    await asyncio.to_thread(teardown, pods.agent.settings)
    await asyncio.to_thread(shutil.rmtree, pods.agent.settings.directory / "pods")
    pods.agent.start()
    after = await pods.until("kept", lambda pod: restarts(pod) == 1 and is_ready(pod))
    assert after["status"]["podIPs"] == [{"ip": after["status"]["podIP"]}]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def links(prefix: str) -> list[str]:
    return [entry.name for entry in Path("/sys/class/net").iterdir() if entry.name.startswith(prefix)]


async def test_a_killed_process_is_restarted_at_once(pods: Pods) -> None:
    await pods.run("engine", "sleep", "1000")
    await pods.until("engine", is_ready)
    os.kill(pods.agent.first_process(await pods.get("engine")), signal.SIGKILL)
    pod = await pods.until("engine", lambda pod: restarts(pod) == 1 and is_ready(pod), 5)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 137


async def test_fifty_pods_run(pods: Pods) -> None:
    await asyncio.gather(*(pods.run(f"many-{at}", "sleep", "1000") for at in range(MANY)))
    for at in range(MANY):
        await pods.until(f"many-{at}", is_ready, 60)
    addresses = {pod["status"]["podIP"] for pod in (await pods.api.get(f"{pods.path}/pods"))["items"]}
    assert len(addresses) == MANY


def test_this_machine_lacks_nothing() -> None:
    assert check_machine() == []

"""Starting and stopping one container of a pod, and running commands in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import replace

from local.node.context import NodeContext
from local.node.environment import ConfigError, command_line, environment, expand, referenced_objects
from local.node.files import Json
from local.node.images import Image
from local.node.objects import as_text
from local.node.pod_state import PodState
from local.node.probes import ProbeTarget
from local.node.records import ContainerRecord
from local.node.rootfs import RootPlan, root_mounts
from local.node.sandbox import pod_facts, pod_hostname
from local.node.shim import Command, Mount, Shim, ShimError
from local.node.volumes import container_mounts

TERMINATION_BYTES = 4096
OUTPUT_BYTES = 10 * 1024


async def prepare_container(state: PodState, context: NodeContext, name: str, attempt: int, image: Image) -> Command:
    """What starts the attempt; reads the objects that it names, makes nothing. Raises ConfigError or ApiError."""
    container = state.container(name)
    values = await container_environment(state, context, container, image)
    folder = state.container_folder(name, attempt)
    command = _command(state, container, attempt, image, values)
    plan = RootPlan(
        directory=folder / "layers",
        pod_directory=state.directory,
        home=context.settings.home,
        memory_mib=context.settings.root_tmpfs_mib if context.root_in_memory else None,
        everyone_passes=command.options["uid"] != "0",
    )
    volumes = {volume["name"]: volume for volume in state.spec.get("volumes", ())}
    mounts = container_mounts(container, volumes, state.directory / "volumes", values)
    message = container.get("terminationMessagePath") or "/dev/termination-log"
    mounts.append(Mount("bind", str(folder / "termination"), message, "file"))
    mounts.append(Mount("mkdir", "", command.options["cwd"]))
    return replace(command, mounts=root_mounts(plan, image.files, mounts))


async def launch_container(state: PodState, command: Command) -> None:
    """Starts a prepared attempt. Raises ShimError or OSError when it cannot run."""
    await asyncio.to_thread(_make_folders, state, command.container, command.attempt)
    await Shim(state.directory).start(command)


def _make_folders(state: PodState, name: str, attempt: int) -> None:
    folder = state.container_folder(name, attempt)
    shutil.rmtree(folder.parent, ignore_errors=True)
    (folder / "layers").mkdir(parents=True)
    (folder / "termination").touch(0o666)
    (folder / "termination").chmod(0o666)
    logs = state.directory / "logs" / name
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.iterdir():
        if int(old.name.split(".")[0]) < attempt - 1:
            old.unlink()


async def container_environment(state: PodState, context: NodeContext, container: Json, image: Image) -> dict[str, str]:
    """The container's variables; reads the ConfigMaps and Secrets that it names."""
    namespace = state.pod["metadata"]["namespace"]
    found = {}
    for kind, name in referenced_objects(container):
        found[(kind, name)] = as_text(await context.objects.data(kind, namespace, name))
    base = {
        "HOME": "/root",
        "HOSTNAME": pod_hostname(state.pod),
        "KUBERNETES_SERVICE_HOST": context.facts.address,
        "KUBERNETES_SERVICE_PORT": str(context.settings.api_server_port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(context.settings.api_server_port),
        **image.environment,
    }
    return environment(pod_facts(state, context), container, base, lambda kind, name: found.get((kind, name)))


def _command(state: PodState, container: Json, attempt: int, image: Image, values: dict[str, str]) -> Command:
    security = {**(state.spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
    user = int(security.get("runAsUser") or 0)
    if security.get("runAsNonRoot") and user == 0:
        raise ConfigError("container has runAsNonRoot and image will run as root")
    if user and values.get("HOME") == "/root":
        values["HOME"] = "/"
    groups = [*security.get("supplementalGroups", ()), *([security["fsGroup"]] if "fsGroup" in security else [])]
    options = {
        "root": str(state.container_folder(container["name"], attempt) / "layers" / "root"),
        "cwd": expand(container.get("workingDir") or image.working_directory, values),
        "log": str(state.log_path(container["name"], attempt)),
        "uid": str(user),
        "gid": str(security.get("runAsGroup") or 0),
        "no_new_privs": "1" if security.get("allowPrivilegeEscalation") is False else "0",
    }
    lines = [f"{name}={value}" for name, value in values.items()]
    return Command(container["name"], command_line(container, image, values), attempt, lines, (), groups, options)


def termination_message(state: PodState, record: ContainerRecord, exit_code: int) -> str:
    """What the container left in its message file, or the end of its log where its policy says so."""
    container = state.container(record.name)
    try:
        text = (state.container_folder(record.name, record.attempt) / "termination").read_bytes()[:TERMINATION_BYTES]
    except OSError:
        text = b""
    if text or not exit_code or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        return text.decode(errors="replace")
    try:
        lines = (state.directory / state.log_path(record.name, record.attempt)).read_bytes().splitlines()[-80:]
    except OSError:
        return ""
    kept = b"\n".join(line.split(b" ", 3)[-1] for line in lines)
    return kept[-2048:].decode(errors="replace")


async def run_command(state: PodState, name: str, argv: list[str], timeout: float) -> tuple[int, str]:
    """Runs a command in a container; returns its exit code and the beginning of its output.

    Raises TimeoutError; the command is then killed. A command that cannot start counts as exit code 127.
    """
    reader, writer = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        execution = await Shim(state.directory).exec(Command(name, argv), [nothing, writer, writer])
    except ShimError as error:
        os.close(reader)
        return 127, str(error)
    finally:
        os.close(writer)
        os.close(nothing)
    try:
        async with asyncio.timeout(timeout):
            output = await _read_pipe(reader)
            return await execution.wait(), output
    finally:
        execution.close()


async def _read_pipe(descriptor: int) -> str:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    try:
        kept = b""
        while chunk := await stream.read(4096):
            kept = (kept + chunk)[:OUTPUT_BYTES]
    finally:
        transport.close()
    return kept.decode(errors="replace")


def probe_target(state: PodState, name: str) -> ProbeTarget:
    """How the container is probed."""
    container = state.container(name)
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ()) if port.get("name")}
    return ProbeTarget(state.address, ports, lambda argv, timeout: run_command(state, name, argv, timeout))


def stop_signal(container: Json) -> signal.Signals:
    """SIGTERM, or what the container's lifecycle names."""
    name = (container.get("lifecycle") or {}).get("stopSignal")
    return signal.Signals[name] if name else signal.SIGTERM


async def send_signal(state: PodState, name: str, number: signal.Signals) -> None:
    """Signals a container; one that has ended already is no error."""
    with contextlib.suppress(ShimError):
        await Shim(state.directory).kill(name, number)

"""A pod's sandbox: its folder's system files, volumes and shim."""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

from local.node.context import NodeContext
from local.node.environment import PodFacts
from local.node.files import Json, write_whole
from local.node.pod_state import PodState
from local.node.resolver_file import machine_text, resolver_of
from local.node.shim import Command, Mount, Network, Shim, end_shim, launch_shim
from local.node.volumes import VolumeError, has_content, prepare_volume, volume_content, write_content


def pod_facts(state: PodState, context: NodeContext) -> PodFacts:
    """What environment and volumes may ask."""
    return PodFacts(state.pod, state.address, context.facts)


def pod_hostname(pod: Json) -> str:
    """The pod's host name; that of the machine in the host's network."""
    if pod["spec"].get("hostNetwork"):
        return socket.gethostname()
    return str(pod["spec"].get("hostname") or pod["metadata"]["name"])[:63].rstrip("-.")


async def open_sandbox(state: PodState, context: NodeContext) -> None:
    """Takes an address, writes the system files and starts the shim. Raises ShimError."""
    if not state.address:
        host = state.spec.get("hostNetwork")
        state.address = context.facts.address if host else context.addresses.take(state.uid)
    state.sandbox += 1
    state.sequence = 0
    state.volumes_ready = False
    (state.directory / "events").unlink(missing_ok=True)
    state.save()
    state.save_pod()
    write_system_files(state, context.cluster_dns)
    async with context.launches:
        await launch_shim(context.shim_program, state.directory, pod_hostname(state.pod), _network(state, context))
    state.has_sandbox = True


def _network(state: PodState, context: NodeContext) -> Network | None:
    if state.spec.get("hostNetwork"):
        return None
    settings = context.settings
    veth = veth_name(settings.bridge, state.uid)
    return Network(settings.bridge, veth, state.address, settings.pod_range.prefixlen, str(settings.bridge_address))


def veth_name(bridge: str, uid: str) -> str:
    """The host's end of a pod's veth pair."""
    return f"bx{zlib.crc32(bridge.encode()) & 0xFFFF:04x}{zlib.crc32(uid.encode()):08x}"


async def close_sandbox(state: PodState, context: NodeContext) -> None:
    """Ends every process of the pod, waits until they are gone and frees its address."""
    await end_shim(state.directory)
    context.addresses.release(state.uid)
    state.has_sandbox = False


# ---- system files ------------------------------------------------------------------------------


def write_system_files(state: PodState, cluster_dns: str | None) -> None:
    """hosts, hostname and resolv.conf as a kubelet writes them."""
    name = pod_hostname(state.pod)
    resolver = resolver_of(state.pod, cluster_dns, machine_text()).text
    files = {"etc-hosts": _hosts(state, name), "etc-hostname": f"{name}\n", "etc-resolv": resolver}
    for file, text in files.items():
        write_whole(state.directory / file, text.encode(), 0o644)


def _hosts(state: PodState, name: str) -> str:
    if state.spec.get("hostNetwork"):
        return Path("/etc/hosts").read_text()
    subdomain = state.spec.get("subdomain")
    full = f"{name}.{subdomain}.{state.pod['metadata']['namespace']}.svc.cluster.local\t" if subdomain else ""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        f"{state.address}\t{full}{name}",
    ]
    aliases = state.spec.get("hostAliases", ())
    lines += ["", "# Entries added by HostAliases."] if aliases else []
    lines += ["\t".join([alias["ip"], *alias.get("hostnames", ())]) for alias in aliases]
    return "\n".join(lines) + "\n"


# ---- volumes -----------------------------------------------------------------------------------


async def set_up_volumes(state: PodState, context: NodeContext) -> None:
    """Makes all volumes of the pod. Raises VolumeError naming the volume."""
    shared = []
    for volume in state.spec.get("volumes", ()):
        try:
            if has_content(volume):
                await fill_volume(state, context, volume)
            else:
                mount = prepare_volume(_folder(state, volume), volume, _group(state))
                shared += _with_sub_paths(state, volume, mount) if mount else []
        except VolumeError as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error
    if shared:
        await Shim(state.directory).mount(Command("pod", ["mount"], mounts=shared))
    state.volumes_ready = True
    state.save()


def _with_sub_paths(state: PodState, volume: Json, mount: Mount) -> list[Mount]:
    """A volume in memory is seen by the shim only, so its subPath folders are made there."""
    everyone = [*state.spec["containers"], *state.spec.get("initContainers", ())]
    wanted = [one for container in everyone for one in container.get("volumeMounts", ())]
    folders = sorted({one["subPath"] for one in wanted if one["name"] == volume["name"] and one.get("subPath")})
    return [mount, *(Mount("mkdir", "", f"{mount.target}/{folder}") for folder in folders)]


async def fill_volume(state: PodState, context: NodeContext, volume: Json) -> bool:
    """Brings a volume's files up to date; false when they were."""
    content = await volume_content(pod_facts(state, context), volume, context.objects)
    state.tokens_until[volume["name"]] = content.renew_at
    directory = _folder(state, volume)
    directory.mkdir(parents=True, exist_ok=True)
    return write_content(directory, content, _group(state))


def _folder(state: PodState, volume: Json) -> Path:
    return state.directory / "volumes" / str(volume["name"])


def _group(state: PodState) -> int | None:
    return (state.spec.get("securityContext") or {}).get("fsGroup")

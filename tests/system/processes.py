"""Finding a pod's processes from outside, as somebody with a shell on the node would."""

from __future__ import annotations

from pathlib import Path


def inner_pid(pid: int) -> int:
    """The pid of a process in its innermost PID namespace."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def in_pod(pid: int, pod_uid: str, home: Path) -> bool:
    """Whether the process has a mount that belongs to the pod's directory under `home`."""
    mounts = Path(f"/proc/{pid}/mountinfo").read_text()
    return pod_uid in mounts and str(home) in mounts


def pid_on_host(pod_uid: str, wanted: int, home: Path) -> int:
    """The host's pid of the process that is `wanted` within the pod."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if inner_pid(int(entry.name)) == wanted and in_pod(int(entry.name), pod_uid, home):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no process {wanted} of pod {pod_uid}")

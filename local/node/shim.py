"""Speaks with the pods' shims (see `local/shim/shim.h`): launch, find again, start, kill, exec, watch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

END_STEP_SECONDS = 0.02
END_STEPS = 500


class ShimError(Exception):
    """A shim refused a request, or none answers."""


@dataclass(frozen=True)
class Mount:
    """One step of making a container's root; the types are listed in shim.h."""

    type: str
    source: str
    target: str
    options: str = ""


@dataclass(frozen=True)
class Command:
    """What a shim is asked to run."""

    container: str
    argv: Sequence[str]
    attempt: int = 0
    env: Sequence[str] = ()
    mounts: Sequence[Mount] = ()
    groups: Sequence[int] = ()
    options: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The NUL separated form that request.c reads."""
        words = ["container", self.container, "attempt", str(self.attempt)]
        for key, value in self.options.items():
            words += [key, value]
        words += _repeated("argv", self.argv) + _repeated("env", self.env)
        words += _repeated("group", (str(group) for group in self.groups))
        for mount in self.mounts:
            words += ["mount", mount.type, mount.source, mount.target, mount.options]
        return b"".join(word.replace("\0", "").encode() + b"\0" for word in words)


def _repeated(key: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (key, value)]


@dataclass(frozen=True)
class ProcessEvent:
    """A line of the shim's events file."""

    sequence: int
    kind: str
    container: str
    attempt: int
    pid: int
    code: int
    signal: int
    at: float

    @classmethod
    def parse(cls, line: str) -> ProcessEvent:
        """Reads one line; raises ValueError on a torn one."""
        sequence, kind, container, attempt, pid, code, killer, at = line.split()
        return cls(int(sequence), kind, container, int(attempt), int(pid), int(code), int(killer), int(at) / 1e9)

    @property
    def exit_code(self) -> int:
        """The exit code as container runtimes report it: 128 + signal for a killed process."""
        return 128 + self.signal if self.signal else self.code


def read_events(directory: Path) -> list[ProcessEvent]:
    """All events of the pod in `directory`, in order."""
    try:
        lines = (directory / "events").read_text().splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):
            events.append(ProcessEvent.parse(line))
    return events


class Connection:
    """One SEQPACKET connection: a request and its answers."""

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(directory, os.O_PATH)
        try:
            # The path through the descriptor keeps below the 108 bytes of a socket address.
            self._socket.connect(f"/proc/self/fd/{folder}/shim.sock")
        except OSError as error:
            self._socket.close()
            raise ShimError(f"no shim answers in {directory.name}: {error.strerror}") from error
        finally:
            os.close(folder)
        self._socket.setblocking(False)

    async def receive(self) -> tuple[str, list[int]]:
        """The next packet and the descriptors it carries; an empty text at the end."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._socket)
        try:
            data, files, _, _ = socket.recv_fds(self._socket, 1024, 4)
        except OSError:
            return "", []
        return data.decode(errors="replace"), files

    async def ask(self, text: str, files: Sequence[int] = ()) -> list[int]:
        """Sends a request; returns the descriptors of its `ok`, raises ShimError otherwise."""
        try:
            socket.send_fds(self._socket, [text.encode()], list(files))
        except OSError as error:
            raise ShimError(f"the shim is gone: {error.strerror}") from error
        answer, received = await self.receive()
        if answer.startswith("ok"):
            return received
        raise ShimError(answer.removeprefix("error ") or "the shim is gone")

    def close(self) -> None:
        """Ends the connection; a command that it runs ends with it."""
        self._socket.close()


@dataclass
class Execution:
    """A command that runs inside a container."""

    connection: Connection
    terminal: int | None = None

    async def wait(self) -> int:
        """The exit code, 128 + signal for a killed command."""
        text, _ = await self.connection.receive()
        words = text.split()
        if len(words) != 3:
            return 137
        return 128 + int(words[2]) if words[2] != "0" else int(words[1])

    def close(self) -> None:
        """Ends the command if it still runs."""
        self.connection.close()


@dataclass(frozen=True)
class Network:
    """What `shim run` needs to attach the pod."""

    bridge: str
    veth: str
    address: str
    prefix: int
    gateway: str


@dataclass(frozen=True)
class Identity:
    """A process, for the life of the machine."""

    pid: int
    start_time: str
    boot: str

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return False
        fields = stat[stat.rindex(")") + 2 :].split()
        return fields[0] not in "ZX" and fields[19] == self.start_time and boot == self.boot


def find_shim(directory: Path) -> Identity | None:
    """The living shim of the pod in `directory`."""
    try:
        pid, start_time, boot = (directory / "shim.pid").read_text().split()
    except (OSError, ValueError):
        return None
    identity = Identity(int(pid), start_time, boot)
    return identity if identity.is_alive() else None


async def launch_shim(program: Path, directory: Path, hostname: str, network: Network | None) -> None:
    """Starts the pod's shim with its namespaces; returns once it serves. Raises ShimError."""
    words = [str(program), "run", str(directory), hostname]
    if network:
        words += [network.bridge, network.veth, network.address, str(network.prefix), network.gateway]
    nowhere = asyncio.subprocess.DEVNULL
    pipe = asyncio.subprocess.PIPE
    launcher = await asyncio.create_subprocess_exec(*words, stdin=nowhere, stdout=nowhere, stderr=pipe)
    _, errors = await launcher.communicate()
    if launcher.returncode:
        raise ShimError(errors.decode(errors="replace").strip() or "the shim did not start")


def kill_shim(directory: Path) -> Identity | None:
    """Kills the pod's shim and with it every process of the pod; the kernel does the rest. Returns whom, if any."""
    identity = find_shim(directory)
    if identity:
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGKILL)
    return identity


async def end_shim(directory: Path) -> None:
    """Kills the pod's shim and waits until the kernel has ended all that was in it."""
    identity = kill_shim(directory)
    for _ in range(END_STEPS if identity else 0):
        if identity and not identity.is_alive():
            return
        await asyncio.sleep(END_STEP_SECONDS)


class Shim:
    """The requests to one pod's shim."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def start(self, command: Command) -> None:
        """Starts a container; ShimError says which step failed."""
        await self._once("start", command)

    async def mount(self, command: Command) -> None:
        """Carries out mounts that all containers of the pod share."""
        await self._once("mount", command)

    async def kill(self, container: str, number: signal.Signals) -> None:
        """Signals the container; SIGKILL reaches every process of it."""
        connection = Connection(self.directory)
        try:
            await connection.ask(f"kill {container} {int(number)}")
        finally:
            connection.close()

    async def exec(self, command: Command, files: Sequence[int] = ()) -> Execution:
        """Runs a command in a container with `files` as its standard files, or on a terminal of its own."""
        connection = Connection(self.directory)
        memory = _memory_file(command)
        try:
            received = await connection.ask("exec", [memory, *files])
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(memory)
        return Execution(connection, received[0] if received else None)

    async def events(self) -> AsyncIterator[ProcessEvent | None]:
        """All events so far, then None, then each as it happens; ends with the shim."""
        connection = Connection(self.directory)
        try:
            await connection.ask("watch")
            last = 0
            for event in read_events(self.directory):
                last = event.sequence
                yield event
            yield None
            while True:
                text, _ = await connection.receive()
                if not text:
                    return
                event = ProcessEvent.parse(text)
                if event.sequence > last:
                    yield event
        finally:
            connection.close()

    async def _once(self, verb: str, command: Command) -> None:
        connection = Connection(self.directory)
        memory = _memory_file(command)
        try:
            await connection.ask(verb, [memory])
        finally:
            os.close(memory)
            connection.close()


def _memory_file(command: Command) -> int:
    descriptor = os.memfd_create("request")
    os.write(descriptor, command.encode())
    return descriptor

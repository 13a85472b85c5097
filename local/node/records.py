"""What the agent remembers of a container, and the arithmetic of back-off.

The record is kept in the pod's state file; with the shim's events it is all that a restarted agent needs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["init", "sidecar", "main"]

BACKOFF_LIMIT = 300.0
BACKOFF_RESET = 2 * BACKOFF_LIMIT


@dataclass(frozen=True)
class Waiting:
    """Not started, with the reason that people see."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """Its first process runs."""

    started_at: float


@dataclass(frozen=True)
class Terminated:
    """It ended."""

    exit_code: int
    reason: str
    started_at: float
    finished_at: float
    container_id: str
    message: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class Backoff:
    """A delay that doubles with every use and starts afresh after ten quiet minutes.

    As a kubelet does it: the first restart is immediate, the next waits `first` seconds from the container's end.
    """

    delay: float = 0.0
    used_at: float = 0.0

    def waits_until(self, ended_at: float) -> float:
        """When something that ended at `ended_at` may start again."""
        if not self.delay or ended_at - self.used_at > BACKOFF_RESET:
            return ended_at
        return ended_at + self.delay

    def next(self, first: float, now: float, ended_at: float) -> Backoff:
        """The back-off after one more start at `now`."""
        expired = not self.delay or ended_at - self.used_at > BACKOFF_RESET
        return Backoff(first if expired else min(2 * self.delay, BACKOFF_LIMIT), now)


@dataclass(frozen=True)
class Blocked:
    """A start that cannot happen yet: its image is unknown or something it reads does not exist."""

    image: str
    reason: str  # shown once `since` is a moment ago
    message: str
    since: float
    delay: float

    @property
    def until(self) -> float:
        """When it is tried again."""
        return self.since + self.delay


@dataclass
class ContainerRecord:
    """One container of a pod over all its attempts."""

    name: str
    kind: Kind
    attempt: int = -1  # of the current or last process; the restart count
    sandbox: int = -1  # in which the attempt ran
    launching: bool = False  # the attempt was asked for, and no event tells of it yet
    image: str = ""  # as the spec named it when the attempt started
    image_id: str = ""
    container_id: str = ""
    state: State = field(default_factory=lambda: Waiting("ContainerCreating"))
    last: Terminated | None = None
    started: bool = False  # startup probe and postStart are done
    ready: bool = False
    backoff: Backoff = field(default_factory=Backoff)
    blocked: Blocked | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return isinstance(self.state, Running)

    @property
    def ended(self) -> Terminated | None:
        """How the last attempt ended, when none runs."""
        if isinstance(self.state, Terminated):
            return self.state
        return self.last if isinstance(self.state, Waiting) else None

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(self.attempt, 0)

    def to_json(self) -> dict[str, Any]:
        """For the state file."""
        return {**asdict(self), "state": [type(self.state).__name__, asdict(self.state)]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ContainerRecord:
        """The reverse of `to_json`."""
        kind, fields = value["state"]
        state: State = {"Waiting": Waiting, "Running": Running, "Terminated": Terminated}[kind](**fields)
        last = Terminated(**value["last"]) if value["last"] else None
        blocked = Blocked(**value["blocked"]) if value["blocked"] else None
        rest = {"state": state, "last": last, "backoff": Backoff(**value["backoff"]), "blocked": blocked}
        return cls(**{**value, **rest})


def records_for(spec: dict[str, Any]) -> list[ContainerRecord]:
    """Fresh records for a pod's containers, init containers first, each in the order of the spec."""
    inits = spec.get("initContainers", [])
    first = Waiting("PodInitializing" if inits else "ContainerCreating")
    records = []
    for container in inits:
        kind: Kind = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        records.append(ContainerRecord(container["name"], kind, state=Waiting("PodInitializing")))
    records += [ContainerRecord(container["name"], "main", state=first) for container in spec["containers"]]
    return records

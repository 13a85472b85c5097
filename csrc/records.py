"""What goes into the kernel and what comes out of it, as frozen values, and the errors that it raises.

No cffi here: everybody may import these types, from here or from `csrc.binding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Any


class KernelError(Exception):
    """Root of what the kernel refuses.

    KernelError
    |- SegmentMissing    no segment yet: retry once the collector has published
    |- SegmentForeign    not a segment, damaged, or of an unknown major version: final
    |- WriterBusy        another collector holds the lock: retry
    |- LimitReached      a configured maximum: final for this input
    |- MessageUnreadable not an ext_proc message: final for this stream
    """


class SegmentMissing(KernelError):  # noqa: N818 - named by what happened
    """No segment at the path yet; retry."""


class SegmentForeign(KernelError):  # noqa: N818 - named by what happened
    """The file is not a segment that this kernel can read; final."""


class WriterBusy(KernelError):  # noqa: N818 - named by what happened
    """Another writer lives, or every spare topology is being read; retry."""


class LimitReached(KernelError):  # noqa: N818 - named by what happened
    """A configured maximum is reached; final for this input."""


class MessageUnreadable(KernelError):  # noqa: N818 - named by what happened
    """The bytes are not a message that the flow can answer; final for the stream."""


class Origin(IntEnum):
    """How a writer found its segment."""

    CREATED = 0
    ADOPTED = 1
    REPLACED = 2


class End(IntEnum):
    """Why a host closes a flow."""

    STREAM = 0
    SHUTDOWN = 1


class Outcome(IntEnum):
    """The one terminal outcome of a request."""

    NONE = 0
    OK = 1
    REJECTED = 2
    UPSTREAM_ERROR = 3
    CLIENT_CANCELLED = 4
    SHUTDOWN = 5


class Verdict(IntEnum):
    """What a decision came to."""

    CHOSEN = 0
    NO_STRATEGY = 1
    UNKNOWN_MODEL = 2
    NO_READY_POD = 3
    BAD_STRATEGY = 4
    BAD_FILTER = 5
    NO_CANDIDATE = 6
    OVERLOADED = 7
    TOO_MANY = 8
    CLAIMED = 9


class Claim(IntEnum):
    """Why no pod serves a model that a ModelClaim is to bring up."""

    ACTIVATING = 1
    SLEEPING = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Configured maxima: the segment is laid out once from them."""

    models: int = 256
    pods: int = 1024
    members: int = 4096
    text_bytes: int = 1 << 20
    readers: int = 32


@dataclass(frozen=True, slots=True)
class Settings:
    """What every request of the node obeys; a key is kept only as its SHA-256."""

    default_strategy: str = ""
    api_key: str = ""
    hide_pod_address: bool = False
    fair: Fairness = field(default_factory=lambda: Fairness())
    count_streams: bool = True
    users: UserRules = field(default_factory=lambda: UserRules())
    model_in_flight: int = 0
    pod_in_flight: int = 0
    ask_within: timedelta = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class UserRules:
    """What the name of a user means. `known`: there are users; `complete`: the segment holds them all; `shared`: limits
    are counted with other nodes, so that each request is asked for; `closed`: what cannot be asked is refused."""

    known: bool = False
    complete: bool = False
    shared: bool = False
    closed: bool = False

    @property
    def mask(self) -> int:
        """As the kernel takes it."""
        return self.known | self.complete << 1 | self.shared << 2 | self.closed << 3


@dataclass(frozen=True, slots=True)
class User:
    """A user's recorded limits; 0 stands for the default: 100 requests a minute, 1000 tokens a minute for each."""

    rpm: int = 0
    tpm: int = 0


@dataclass(frozen=True, slots=True)
class Fairness:
    """How `vtc-basic` weighs: a window over which tokens of a user count, and what they are worth."""

    window: timedelta = timedelta(minutes=5)
    least_tokens: int = 1000
    most_tokens: int = 8000
    full_load: int = 100
    input_weight: float = 1.0
    output_weight: float = 2.0
    fairness_weight: float = 1.0
    utilization_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Users:
    """Tokens of the least and of the most active user, and those that stand for one pod."""

    least: float
    most: float
    bucket: float


@dataclass(frozen=True, slots=True)
class Pod:
    """One address that can serve. `key` is its identity: the uid, with the port where a pod has several."""

    key: str
    namespace: str
    name: str
    address: str
    ready: bool
    engine: str = "vllm"
    labels: Mapping[str, str] = field(default_factory=dict)


HINTS = ("prompt_at_least", "prompt_below", "max_tokens_at_least", "max_tokens_below")
"""Names of what a profile may ask of a request to be chosen by `auto`, in the order of the kernel."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One configuration profile; `hints` by the names of HINTS, `requests_per_second` 0 is no limit."""

    name: str
    strategy: str = ""
    requests_per_second: int = 0
    is_default: bool = False
    hints: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelProfiles:
    """A model's profiles in the order of their names' bytes, and the strategy that beats all others, if any."""

    locked: str = ""
    profiles: tuple[Profile, ...] = ()


GAUGES = (
    "taken", "owner", "local", "remote", "running", "waiting", "kv_cache", "gpu_cache", "cpu_cache", "utilization",
    "busy", "prompt_rate", "generation_rate", "prompt_length", "generation_length", "queue_time", "prefill_time",
    "decode_time", "first_token_time", "token_time", "request_time",
)  # fmt: skip
"""Names of a pod's gauges in the order of the kernel."""

METRICS = (
    "running", "waiting", "kv_cache", "gpu_cache", "cpu_cache", "utilization", "generation_rate", "prompt_tokens",
    "generation_tokens", "finished", "queue_time", "prefill_time", "decode_time", "prompt_length", "generation_length",
    "first_token_time", "token_time", "request_time",
)  # fmt: skip
"""Names of what is read of an engine's page, in the order of the kernel; histograms from `queue_time` on."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of a page: a value, or the sum and the count of a histogram."""

    value: float
    count: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: slots of dead readers, places of departed pods."""

    slots_freed: int
    slots_live: int
    places_freed: int
    places_held: int


@dataclass(frozen=True, slots=True)
class ModelTotals:
    """Counters of one model over all readers, dead ones included; name "" is "no known model"."""

    name: str
    in_flight: int
    endings: Mapping[tuple[Outcome, int], int]
    with_usage: int
    prompt_tokens: int
    completion_tokens: int
    times: tuple[int, ...] = ()
    """Words of the kernel's times.h: buckets of tokens and durations, and sums in microseconds."""


@dataclass(frozen=True, slots=True)
class PodTotals:
    """Counters of one pod of the published topology: running now, routed ever."""

    key: str
    namespace: str
    name: str
    running: int
    routed: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything that `/metrics` shows of the segment at one moment."""

    requests: int
    in_flight: int
    readers: int
    anomalies: int
    unparsed: int
    bytes: int
    pages: int
    pages_failed: int
    wakes: int
    wakes_failed: int
    decisions: Mapping[str, int]
    without_data: Mapping[str, int]
    asked: int
    unanswered: int
    degraded: int
    models: tuple[ModelTotals, ...]
    pods: tuple[PodTotals, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One request for the access log. `outcome` is NONE while it runs."""

    outcome: Outcome
    code: int
    request_id: str
    model: str
    strategy: str
    pod: str
    address: str
    streaming: bool
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision without HTTP. It counts on the pod until `SegmentReader.finish`."""

    verdict: Verdict
    pod: str
    address: str
    place: int
    candidates: int
    handle: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod as the strategies see it: raw scores by item (None: no data), and what a list makes of them."""

    pod: str
    address: str
    load: float
    scores: tuple[float | None, ...]
    final: float
    picked: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a request would be decided as, by which items (name, weight), among which candidates."""

    verdict: Verdict
    strategy: str
    candidates: int
    items: tuple[tuple[str, int], ...]
    rows: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """What the body scanner found; `kinds` and `elements` by field name, absent fields left out."""

    valid: bool
    model: str
    text: bytes
    kinds: Mapping[str, str]
    elements: Mapping[str, frozenset[str]]

"""The kernel as typed Python: the only module that touches cffi.

Everything that decides or counts is C. This module turns Python values into prepared
pointers and C results into frozen dataclasses. It may assume that the extension
`csrc._kernel` is built (`make up`, or `python setup.py build_ext --inplace`).

    writer = SegmentWriter.open(path, Limits())          # the collector, one per node
    writer.publish({"llama2-7b": [Pod(...)]}, Settings(default_strategy="least-request"))
    reader = SegmentReader.open(path)                    # each gateway process
    flow = reader.begin()                                # each ext_proc stream
    answer = flow.process(message)                       # bytes in, bytes out
    flow.close(End.STREAM)                               # exactly one finish

Calls release the GIL. A writer belongs to one thread; a reader may be shared; a flow is used
by one thread at a time. After a fork the child opens its own reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from csrc import _kernel
from csrc.flow_handle import OUTPUT_BYTES, Flow
from csrc.handles import ENDINGS, STRATEGIES, Texts, check, put_problems, put_profiles, put_settings, string
from csrc.limit_table import LimitTable
from csrc.records import (
    GAUGES,
    Candidate,
    Claim,
    Decision,
    End,
    Explanation,
    Fairness,
    KernelError,
    LimitReached,
    Limits,
    MessageUnreadable,
    ModelProfiles,
    ModelTotals,
    Origin,
    Outcome,
    Pod,
    PodTotals,
    Record,
    SegmentForeign,
    SegmentMissing,
    Settings,
    Swept,
    Totals,
    User,
    UserRules,
    Users,
    Verdict,
    WriterBusy,
)

__all__ = [
    "Candidate",
    "Claim",
    "Decision",
    "End",
    "Explanation",
    "Fairness",
    "Flow",
    "KernelError",
    "LimitReached",
    "LimitTable",
    "Limits",
    "MessageUnreadable",
    "ModelTotals",
    "Origin",
    "Outcome",
    "Pod",
    "PodTotals",
    "Record",
    "SegmentForeign",
    "SegmentMissing",
    "SegmentReader",
    "SegmentWriter",
    "Settings",
    "Swept",
    "Totals",
    "User",
    "UserRules",
    "Users",
    "Verdict",
    "WriterBusy",
]

_ffi: Any = _kernel.ffi
_lib: Any = _kernel.lib

DEFAULT_FLOWS = 16384
EXPLAINED = 1024


def _labels_blob(labels: Mapping[str, str]) -> bytes:
    return b"".join(f"{key}\0{value}\0".encode() for key, value in sorted(labels.items()))


class SegmentWriter:
    """The one writer of a segment. Use as a context manager, or close it."""

    def __init__(self, handle: Any, origin: Origin) -> None:
        self._handle = handle
        self._published: tuple[Pod, ...] = ()
        self.limits = LimitTable(self._live)
        self._indexes: dict[str, int] = {}
        self.origin = origin

    @classmethod
    def open(cls, path: str | Path, limits: Limits | None = None) -> Self:
        """Take the writer lock and adopt or prepare the segment at `path`.

        Raises WriterBusy when another writer lives, OSError when memory or the path is refused.
        """
        asked = limits or Limits()
        fields = (asked.models, asked.pods, asked.members, asked.text_bytes, asked.readers)
        handle, origin = _ffi.new("brix_writer **"), _ffi.new("brix_origin *")
        status = _lib.brix_writer_open(str(path).encode(), _ffi.new("brix_limits *", fields), handle, origin)
        check(status, f"open segment {path} for writing")
        return cls(handle[0], Origin(origin[0]))

    def _live(self) -> Any:
        if self._handle is None:
            raise KernelError("the writer is closed")
        return self._handle

    def publish(
        self,
        models: Mapping[str, Iterable[Pod]],
        settings: Settings | None = None,
        profiles: Mapping[str, ModelProfiles] | None = None,
        problems: Mapping[str, str] | None = None,
        claims: Mapping[str, Claim] | None = None,
    ) -> None:
        """Make `models` and `settings` the whole truth; readers see all of it or nothing.

        The same key in several models is one pod; no pod serves those of `claims`. `problems`: what is wrong with the
        HTTPRoutes of models. Raises LimitReached (the last topology stays) or WriterBusy.
        """
        check(_lib.brix_writer_begin(self._live()), "begin a topology")
        put_settings(self._live(), settings or Settings())
        listed = {name: tuple(pods) for name, pods in models.items()}
        indexes: dict[str, int] = {}
        pods = {pod.key: pod for members in listed.values() for pod in members}
        for key, pod in pods.items():
            indexes[key] = self._put_pod(pod)
        for name, members in listed.items():
            self._put_model(name, [indexes[pod.key] for pod in members])
            if profiles and name in profiles:
                put_profiles(self._live(), name, profiles[name])
        for name, state in (claims or {}).items():
            self._put_model(name, [])
            check(_lib.brix_writer_claim(self._live(), state), f"claim of model {name}")
        if problems:
            put_problems(self._live(), [problems.get(name, "") for name in listed])
        check(_lib.brix_writer_publish(self._live()), "publish a topology")
        self._published, self._indexes = tuple(pods.values()), indexes

    def _put_pod(self, pod: Pod) -> int:
        texts, raw, index = Texts(), _ffi.new("brix_pod *"), _ffi.new("uint32_t *")
        texts.fill(raw.key, pod.key)
        texts.fill(raw.space, pod.namespace)
        texts.fill(raw.name, pod.name)
        texts.fill(raw.address, pod.address)
        texts.fill(raw.engine, pod.engine)
        texts.fill(raw.labels, _labels_blob(pod.labels))
        raw.ready = int(pod.ready)
        check(_lib.brix_writer_pod(self._live(), raw, index), f"pod {pod.namespace}/{pod.name}")
        return int(index[0])

    def _put_model(self, name: str, members: list[int]) -> None:
        raw = name.encode()
        check(_lib.brix_writer_model(self._live(), raw, len(raw)), f"model {name}")
        for member in members:
            check(_lib.brix_writer_member(self._live(), member), f"member of model {name}")

    def take_wanted(self, model: str) -> bool:
        """True when requests came for this published model, whose claim sleeps, since the last call."""
        texts, text = Texts(), _ffi.new("brix_text *")
        texts.fill(text, model)
        return bool(_lib.brix_writer_wanted(self._live(), text[0]))

    def sweep(self) -> Swept:
        """Free what dead readers and departed pods left; call it every 200 ms or so."""
        swept = _ffi.new("brix_swept *")
        check(_lib.brix_writer_sweep(self._live(), swept), "sweep")
        return Swept(swept.slots_freed, swept.slots_live, swept.places_freed, swept.places_held)

    def totals(self) -> Totals:
        """Sum over live slots and what dead ones left."""
        raw = _ffi.new("brix_totals *")
        _lib.brix_writer_totals(self._live(), raw)
        return Totals(
            requests=raw.requests,
            in_flight=raw.in_flight,
            readers=raw.readers,
            anomalies=raw.anomalies,
            unparsed=raw.unparsed,
            bytes=raw.bytes,
            pages=raw.pages,
            pages_failed=raw.pages_failed,
            wakes=raw.wakes,
            wakes_failed=raw.wakes_failed,
            decisions={name: int(raw.decisions[line]) for line, name in STRATEGIES if raw.decisions[line]},
            without_data={name: int(raw.without_data[line]) for line, name in STRATEGIES if raw.without_data[line]},
            asked=raw.asked,
            unanswered=raw.unanswered,
            degraded=raw.degraded,
            models=tuple(self._model_totals()),
            pods=tuple(self._pod_totals()),
        )

    def _model_totals(self) -> Iterable[ModelTotals]:
        raw, index = _ffi.new("brix_model_totals *"), 0
        while _lib.brix_writer_model_totals(self._live(), index, raw) == _lib.BRIX_OK:
            index += 1
            name = bytes(_ffi.unpack(raw.name, raw.name_length)).decode(errors="replace")
            if not name and index > 1:
                continue
            endings = {meaning: int(raw.endings[line]) for line, meaning in ENDINGS if raw.endings[line]}
            tokens = raw.with_usage, raw.prompt_tokens, raw.completion_tokens
            yield ModelTotals(name, raw.in_flight, endings, *tokens, tuple(raw.times))

    def _pod_totals(self) -> Iterable[PodTotals]:
        raw = _ffi.new("brix_pod_totals *")
        for index, pod in enumerate(self._published):
            if _lib.brix_writer_pod_totals(self._live(), index, raw) == _lib.BRIX_OK:
                yield PodTotals(pod.key, pod.namespace, pod.name, raw.running, raw.routed)

    def running(self, key: str) -> int:
        """Requests of this node on the pod of this key now; 0 when it is not published."""
        raw, index = _ffi.new("brix_pod_totals *"), self._indexes.get(key)
        if index is None or _lib.brix_writer_pod_totals(self._live(), index, raw) != _lib.BRIX_OK:
            return 0
        return int(raw.running)

    def scrape(self, key: str, page: bytes, local: int, now: float, model: str = "", rank: int = -1) -> None:
        """Make true what an engine's page says. `local` is what `running` said when the page was asked for, `now`
        is CLOCK_MONOTONIC in seconds. A pod that is not published is left out.

        Raises MessageUnreadable for a page that is no Prometheus text: then nothing changes.
        """
        index = self._indexes.get(key)
        if index is None:
            return
        texts, raw = Texts(), _ffi.new("brix_scrape *")
        texts.fill(raw.page, page)
        texts.fill(raw.model, model)
        raw.rank, raw.now, raw.local = rank, round(now * 1e9), local
        check(_lib.brix_writer_scrape(self._live(), index, raw), f"metrics page of {key}")

    def count_page(self, *, failed: bool) -> None:
        """Count a metrics page of an engine; the count outlives this process."""
        _lib.brix_writer_count_page(self._live(), int(failed))

    def count_wake(self, woke: bool) -> None:
        """Count a call that should wake a model; the count outlives this process."""
        _lib.brix_writer_count_wake(self._live(), int(not woke))

    def set_gauges(self, key: str, taken: float, gauges: Mapping[str, float]) -> None:
        """Set the gauges of a pod as they are given; those that are not given are missing."""
        values = [taken, *(gauges.get(name, float("nan")) for name in GAUGES[1:])]
        sample = _ffi.new("brix_sample *", (values,))
        check(_lib.brix_writer_gauges(self._live(), self._indexes[key], sample), f"gauges of {key}")

    def gauges(self, now: float) -> dict[str, dict[str, float]]:
        """By key of the pod what is known of it at this time of CLOCK_MONOTONIC; missing gauges are left out."""
        sample, found = _ffi.new("brix_sample *"), {}
        for key, index in self._indexes.items():
            check(_lib.brix_writer_sample(self._live(), index, round(now * 1e9), sample), f"gauges of {key}")
            values = zip(GAUGES, sample.values, strict=True)
            found[key] = {name: float(value) for name, value in values if value == value}
        return found

    def users(self, now: float) -> Users:
        """Find the least and the most active user anew; call it every 100 ms or so."""
        raw = _ffi.new("brix_users *")
        check(_lib.brix_writer_users(self._live(), round(now * 1e9), raw), "users")
        return Users(raw.least, raw.most, raw.bucket)

    def user_tokens(self, user: str, now: float) -> float:
        """Weighed tokens of a user within the window."""
        texts, raw, total = Texts(), _ffi.new("brix_text *"), _ffi.new("double *")
        texts.fill(raw, user)
        check(_lib.brix_writer_user(self._live(), raw[0], round(now * 1e9), total), "tokens of a user")
        return float(total[0])

    def charge(self, user: str, read: int, made: int, now: float) -> None:
        """Charge a user with tokens; raises MessageUnreadable for an empty name."""
        texts, raw = Texts(), _ffi.new("brix_text *")
        texts.fill(raw, user)
        check(_lib.brix_writer_user_add(self._live(), raw[0], read, made, round(now * 1e9)), "a user without a name")

    def close(self) -> None:
        """Release the lock; the segment stays and serves."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _lib.brix_writer_close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bucket_of(first: int, value: int) -> int:
    """The bucket that the kernel counts a value in, nanoseconds or tokens, among those that begin at word `first`."""
    return int(_lib.brix_times_bucket(first, value))


class SegmentReader:
    """A gateway process's view of the segment, with a slot of its own until it dies or closes."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._outputs: list[Any] = []

    @classmethod
    def open(
        cls,
        path: str | Path,
        flows: int = DEFAULT_FLOWS,
        held_bytes: int = 0,
        body_bytes: int = 0,
        *,
        reads_answers: bool = True,
    ) -> Self:
        """Map the segment at `path` and claim a slot.

        Requests whose bodies would make more than `held_bytes` together are refused (0: none is); one request counts
        as `body_bytes` at most. Without `reads_answers` the host is asked to keep good answers' bodies to itself.

        Raises SegmentMissing before the first publish, SegmentForeign, LimitReached when no slot is free.
        """
        handle = _ffi.new("brix_reader **")
        check(_lib.brix_reader_open(str(path).encode(), flows, handle), f"open segment {path}")
        _lib.brix_reader_bound(handle[0], held_bytes, body_bytes)
        if not reads_answers:
            _lib.brix_reader_skip_answers(handle[0])
        return cls(handle[0])

    @property
    def is_open(self) -> bool:
        """False once it was closed: flows that are left are void then."""
        return self._handle is not None

    def _live(self) -> Any:
        if self._handle is None:
            raise KernelError("the reader is closed")
        return self._handle

    def begin(self, trace_id: str = "") -> Flow:
        """Begin a request. `trace_id` (32 hex digits of the caller's span) becomes the request id.

        Raises LimitReached when as many requests run as the reader was opened for.
        """
        flow, raw = _ffi.new("brix_flow **"), trace_id.encode()
        check(_lib.brix_flow_begin(self._live(), raw, len(raw), flow), "begin a request")
        return Flow(self, flow[0])

    def decide(
        self,
        model: str,
        strategy: str = "",
        filter_text: str = "",
        random: int = 0,
        *,
        session_id: str = "",
        session_key: str = "",
        user: str = "",
        prompt_tokens: int = 0,
        now: float = 0,
        avoid: Sequence[int] = (),
    ) -> Decision:
        """Choose a pod and count on it, without HTTP. `now` is CLOCK_MONOTONIC in seconds, 0 asks the clock; pods whose
        `Decision.place` is in `avoid` (at most three) are left out while there is any other."""
        asked = (model, strategy, filter_text, session_id, session_key, user)
        _texts, request = _request(asked, prompt_tokens, random, now)
        request.avoids, request.avoid = len(avoid), list(avoid)
        decision = _ffi.new("brix_decision *")
        check(_lib.brix_reader_decide(self._live(), request, decision), f"decide for {model}")
        pod = bytes(_ffi.unpack(decision.pod_name, decision.pod_name_length)).decode(errors="replace")
        address = bytes(_ffi.unpack(decision.address, decision.address_length)).decode(errors="replace")
        return Decision(Verdict(decision.verdict), pod, address, decision.pod_place, decision.candidates, decision)

    def explain(
        self,
        model: str,
        strategy: str = "",
        filter_text: str = "",
        *,
        session_id: str = "",
        session_key: str = "",
        user: str = "",
        prompt_tokens: int = 0,
        random: int = 0,
        now: float = 0,
    ) -> Explanation:
        """What such a request would be decided as now, and why; nothing is counted. At most `EXPLAINED` candidates."""
        asked = (model, strategy, filter_text, session_id, session_key, user)
        _texts, request = _request(asked, prompt_tokens, random, now)
        items, rows = (
            _ffi.new("brix_explained_item[]", _lib.BRIX_EXPLAINED_ITEMS),
            _ffi.new("brix_explained[]", EXPLAINED),
        )
        counts, decision = _ffi.new("uint32_t[2]"), _ffi.new("brix_decision *")
        status = _lib.brix_reader_explain(self._live(), request, items, counts, rows, EXPLAINED, counts + 1, decision)
        check(status, f"explain for {model}")
        named = string(_ffi.new("brix_text *", (decision.strategy, decision.strategy_length))[0])
        told = tuple((string(items[i].strategy), int(items[i].weight)) for i in range(counts[0]))
        found = tuple(_explained(rows[i], len(told)) for i in range(counts[1]))
        return Explanation(Verdict(decision.verdict), named, decision.candidates, told, found)

    def finish(self, decision: Decision) -> None:
        """Take a decision's count back; a second call changes nothing."""
        if self.is_open:
            _lib.brix_reader_finish(self._handle, decision.handle)

    def close(self) -> None:
        """Give the slot back; requests still running count no more."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _lib.brix_reader_close(handle)

    def take_output(self) -> Any:
        """An output buffer, from those that came back or a new one."""
        return self._outputs.pop() if self._outputs else _ffi.new("char[]", OUTPUT_BYTES)

    def give_output(self, output: Any) -> None:
        """Give an output buffer back."""
        self._outputs.append(output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _request(asked: tuple[str, ...], prompt_tokens: int, random: int, now: float) -> tuple[Texts, Any]:
    """A request in C, and what keeps its texts alive."""
    texts, request = Texts(), _ffi.new("brix_request *")
    names = ("model", "strategy", "filter", "session_id", "session_key", "user")
    for name, value in zip(names, asked, strict=True):
        texts.fill(getattr(request, name), value)
    request.prompt_tokens, request.random, request.now = prompt_tokens, random, round(now * 1e9)
    return texts, request


def _explained(row: Any, items: int) -> Candidate:
    pod = bytes(_ffi.unpack(row.pod_name, row.pod_name_length)).decode(errors="replace")
    address = bytes(_ffi.unpack(row.address, row.address_length)).decode(errors="replace")
    scores = tuple(None if row.scores[i] != row.scores[i] else float(row.scores[i]) for i in range(items))
    return Candidate(pod, address, row.load, scores, row.final, bool(row.picked))

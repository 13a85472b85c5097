"""What a workflow shows of itself: current details in markdown, and search attributes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from activities.wording import cut_bytes
    from planning.wire import Logged, Memory, Ref, View

DETAILS_BYTES = 18_000
KEYWORD_BYTES = 255

OBJECT_KIND = SearchAttributeKey.for_keyword("ObjectKind")
OBJECT_NAMESPACE = SearchAttributeKey.for_keyword("ObjectNamespace")
MODEL = SearchAttributeKey.for_keyword("Model")
PHASE = SearchAttributeKey.for_keyword("Phase")
REVISION = SearchAttributeKey.for_keyword("Revision")
BLOCKED = SearchAttributeKey.for_bool("Blocked")
KEYS = (OBJECT_KIND, OBJECT_NAMESPACE, MODEL, PHASE, REVISION, BLOCKED)


class Shown:
    """Shows a memory; attributes are written only when they change."""

    def __init__(self, ref: Ref) -> None:
        self._ref = ref
        self._attributes: tuple[str, str, str, bool] | None = None

    def show(self, memory: Memory, rollout: str | None, *, searchable: bool) -> None:
        title = f"**{self._ref.kind} {self._ref.namespace}/{self._ref.name}{f' to {rollout}' if rollout else ''}**"
        workflow.set_current_details(details(title, memory, workflow.now()))
        found = _attributes(memory.shown, rollout)
        if searchable and found != self._attributes:
            self._attributes = found
            workflow.upsert_search_attributes(_updates(self._ref, found))


def _attributes(view: View, rollout: str | None) -> tuple[str, str, str, bool]:
    return view.model, view.phase, rollout or view.revision, bool(view.blocked)


def _updates(ref: Ref, found: tuple[str, str, str, bool]) -> list[SearchAttributeUpdate[Any]]:
    model, phase, revision, blocked = found
    words = ((OBJECT_KIND, ref.kind), (OBJECT_NAMESPACE, ref.namespace), (MODEL, model), (PHASE, phase))
    updates: list[SearchAttributeUpdate[Any]] = [
        key.value_set(cut_bytes(word, KEYWORD_BYTES)) for key, word in (*words, (REVISION, revision)) if word
    ]
    return [*updates, BLOCKED.value_set(blocked)]


def details(title: str, memory: Memory, at: datetime) -> str:
    """Markdown: the title, which a new run would lose otherwise, the view, the last decisions, and the time."""
    recent = "\n".join(_line(logged) for logged in reversed(memory.recent))
    blocked = f"**Blocked:** {memory.shown.blocked}\n\n" if memory.shown.blocked else ""
    tail = f"\n\n{blocked}### Last decisions\n{recent or 'none yet'}\n\nAs of {_stamp(at)}, decision {memory.number}."
    head = f"{title}\n\n{memory.shown.details or memory.shown.phase}"
    return cut_bytes(head, DETAILS_BYTES - len(tail.encode())) + tail


def _line(logged: Logged) -> str:
    return f"- {_stamp(logged.at)} {logged.reason}{f': {logged.result}' if logged.result else ''}"


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")

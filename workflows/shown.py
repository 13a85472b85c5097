"""What a workflow shows of itself: current details in markdown, and search attributes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from activities.messages import Answer
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


Attributes = tuple[str, str, str, bool]


class Shown:
    """Shows a memory; attributes are written only when they change. `attributes`: those given at the start."""

    def __init__(self, ref: Ref, attributes: Attributes | None = None) -> None:
        self._ref = ref
        self._attributes = attributes

    def show(self, memory: Memory, rollout: str | None, *, searchable: bool) -> None:
        title = f"**{self._ref.kind} {self._ref.namespace}/{self._ref.name}{f' to {rollout}' if rollout else ''}**"
        workflow.set_current_details(details(title, memory, workflow.now()))
        found = _attributes(memory.shown, rollout)
        if searchable and found != self._attributes:
            self._attributes = found
            workflow.upsert_search_attributes(_updates(self._ref, found))


def started_with(opening: Answer | None, rollout: str | None) -> Attributes | None:
    """The attributes that `start_attributes` gave to the workflow; None when it was started without any."""
    return _attributes(opening.view, rollout) if opening is not None and opening.searchable else None


def start_attributes(ref: Ref, opening: Answer | None, rollout: str | None = None) -> TypedSearchAttributes:
    """Search attributes for the start of a workflow with that opening: it saves the first upsert."""
    found = started_with(opening, rollout)
    updates = _updates(ref, found) if found is not None else []
    return TypedSearchAttributes([SearchAttributePair(update.key, update.value) for update in updates])


def _attributes(view: View, rollout: str | None) -> Attributes:
    return view.model, view.phase, rollout or view.revision, bool(view.blocked)


def _updates(ref: Ref, found: Attributes) -> list[SearchAttributeUpdate[Any]]:
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

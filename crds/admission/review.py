"""The API server's question about one object, and the answer: a patch, a refusal with every reason, or warnings.

Judged is only what an edit changes: nothing when the object is going or its spec stays, and a fault that the stored
object has already is no reason to refuse. So an object that was stored while nobody asked can be mended step by step.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import orjson

from crds import labels
from crds.admission import deployment, kvcache, modeladapter, podautoscaler, stormservice
from crds.admission.faults import Fault, new_ones, together
from crds.admission.sidecar import DEFAULT_IMAGE
from crds.admission.values import mapping, text

Json = dict[str, Any]

log = logging.getLogger(__name__)

FORBIDDEN: Final = 403
UNPROCESSABLE: Final = 422
MOST_WARNINGS: Final = 16
_REASONS: Final = {FORBIDDEN: "Forbidden", UNPROCESSABLE: "Invalid"}


def _nothing(_obj: Json) -> Iterable[Any]:
    return ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of one kind. `defaults` gets the object and the sidecar's image; `judged` is what faults are about.

    `refusal` is the status code of a refusal: AIBrix answers 422 for a PodAutoscaler and 403 for the others.
    """

    kind: str
    group: str
    defaults: Callable[[Json, str], Json] = lambda obj, _image: obj
    faults: Callable[[Json], Iterable[Fault]] = _nothing
    edit_faults: Callable[[Json, Json], Iterable[Fault]] = lambda _old, _new: ()
    warnings: Callable[[Json], Iterable[str]] = _nothing
    judged: Callable[[Json], Any] = lambda obj: obj.get("spec")
    refusal: int = FORBIDDEN


RULES: Final[Mapping[str, Rules]] = MappingProxyType(
    {
        "apps-v1-deployment": Rules("Deployment", "apps", defaults=deployment.with_sidecar),
        "orchestration-aibrix-ai-v1alpha1-kvcache": Rules(
            "KVCache", labels.ORCHESTRATION_GROUP, lambda obj, _: kvcache.with_defaults(obj), kvcache.faults,
            warnings=kvcache.warnings, judged=kvcache.judged,
        ),
        "model-aibrix-ai-v1alpha1-modeladapter": Rules(
            "ModelAdapter", labels.MODEL_GROUP, faults=modeladapter.faults, warnings=modeladapter.warnings
        ),
        "autoscaling-aibrix-ai-v1alpha1-podautoscaler": Rules(
            "PodAutoscaler", labels.AUTOSCALING_GROUP, faults=podautoscaler.faults, warnings=podautoscaler.warnings,
            refusal=UNPROCESSABLE,
        ),
        "orchestration-aibrix-ai-v1alpha1-stormservice": Rules(
            "StormService", labels.ORCHESTRATION_GROUP, stormservice.with_sidecars, stormservice.faults,
            stormservice.edit_faults, stormservice.warnings,
        ),
    }
)  # fmt: skip
"""By the end of a webhook's path."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`patch` replaces parts of the object; `faults` refuse it."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    patch: list[Json] = field(default_factory=list)


def mutate(rules: Rules, request: Json, image: str = DEFAULT_IMAGE) -> Answer:
    obj = mapping(request, "object")
    return Answer() if _is_going(obj) else Answer(patch=difference(obj, rules.defaults(obj, image)))


def validate(rules: Rules, request: Json) -> Answer:
    new, old = mapping(request, "object"), mapping(request, "oldObject")
    is_edit = request.get("operation") == "UPDATE"
    if _is_going(new) or (is_edit and rules.judged(new) == rules.judged(old)):
        return Answer()
    found = list(rules.faults(new))
    if is_edit:
        found = [*rules.edit_faults(old, new), *new_ones(found, rules.faults(old))]
    return Answer(found, list(islice(rules.warnings(new), MOST_WARNINGS)))


def review(document: Json, rules: Rules, *, mutating: bool, image: str = DEFAULT_IMAGE) -> Json:
    """An AdmissionReview's answer, ready to be sent."""
    request = mapping(document, "request")
    answer = mutate(rules, request, image) if mutating else validate(rules, request)
    response: Json = {"uid": text(request.get("uid")), "allowed": not answer.faults}
    if answer.faults:
        response["status"] = _status(rules, request, answer.faults)
        log.info(
            "refused kind=%s namespace=%s name=%s faults=%d",
            rules.kind, request.get("namespace"), request.get("name"), len(answer.faults),
        )  # fmt: skip
    if answer.warnings:
        response["warnings"] = answer.warnings
    if answer.patch:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(answer.patch)).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def _status(rules: Rules, request: Json, faults: list[Fault]) -> Json:
    name = text(request.get("name")) or text(mapping(request, "object", "metadata").get("generateName"))
    message = together(faults)
    if rules.refusal == UNPROCESSABLE:
        message = f'{rules.kind}.{rules.group} "{name}" is invalid: {message}'
    causes = [fault.cause for fault in faults]
    return {
        "status": "Failure",
        "code": rules.refusal,
        "reason": _REASONS[rules.refusal],
        "message": message,
        "details": {"name": name, "group": rules.group, "kind": rules.kind, "causes": causes},
    }


def difference(old: Json, new: Json, path: str = "") -> list[Json]:
    """A JSON patch from `old` to `new`: fields that came or changed; lists are replaced whole."""
    found = []
    for key, value in new.items():
        at = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            found += difference(before, value, at) if before is not value else []
        elif before != value:
            found.append({"op": "replace" if key in old else "add", "path": at, "value": value})
    return found


def _is_going(obj: Json) -> bool:
    return bool(mapping(obj, "metadata").get("deletionTimestamp"))

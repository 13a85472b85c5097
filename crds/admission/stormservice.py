"""StormService: what could never run is refused, what is merely unwise is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from crds import labels
from crds.admission.faults import Fault, Kind, invalid, required
from crds.admission.selectors import is_empty, matches
from crds.admission.sidecar import Sidecar, injected
from crds.admission.values import annotations_of, mapping, mappings, number, text
from crds.fields import ROLE_NAME_PATTERN
from crds.intorstr import IntOrStringError, scaled

Json = dict[str, Any]

NAME_LIMIT = 63
GROUP_NAME_EXTRA = 36
"""What the name of a pod in a PodSet has beside the names of its StormService and role."""
GENERATED_SUFFIX = "x" * 5
_ROLE_NAME = re.compile(ROLE_NAME_PATTERN.removesuffix("$") + r"\Z", re.ASCII)


def faults(obj: Json) -> Iterator[Fault]:
    spec = mapping(obj, "spec")
    if not spec:
        yield required("spec", "a StormService needs a selector and a template")
        return
    yield from _template(spec)
    yield from _names(obj)
    yield from _budget(mapping(spec, "updateStrategy"), "spec.updateStrategy")
    seen: set[str] = set()
    for place, role in _roles(spec):
        path = f"spec.template.spec.roles[{place}]"
        yield from _role_name(text(role.get("name")), seen, f"{path}.name")
        yield from _budget(mapping(role, "updateStrategy"), f"{path}.updateStrategy")


def edit_faults(old: Json, new: Json) -> Iterator[Fault]:
    """The selector stays, as a Deployment's does, unless it could not select anything of its own."""
    before, after = mapping(old, "spec"), mapping(new, "spec")
    if after.get("selector") != before.get("selector") and _selects_its_own(before):
        yield invalid("spec.selector", after.get("selector"), "field is immutable")


def warnings(obj: Json) -> Iterator[str]:
    spec = mapping(obj, "spec")
    strategy = mapping(spec, "updateStrategy")
    if "maxSurge" in strategy and "maxUnavailable" in strategy and _is_zero(strategy):
        yield "spec.updateStrategy: maxSurge and maxUnavailable are both zero, maxUnavailable counts as 1"
    if spec.get("automaticRollback") is True and spec.get("progressDeadlineSeconds") is None:
        yield "spec.automaticRollback does nothing without spec.progressDeadlineSeconds"
    whole = mapping(spec, "template", "spec", "schedulingStrategy")
    for place, role in _roles(spec):
        path = f"spec.template.spec.roles[{place}]"
        if whole and mapping(role, "schedulingStrategy"):
            yield f"{path}.schedulingStrategy wins over spec.template.spec.schedulingStrategy for its pods"
        if (number(role.get("replicas")) or 0) < 0:
            yield f"{path}.replicas is negative and counts as 0"
        if "metrics-port" in str(mapping(role, "template", "metadata", "labels").keys()):
            yield f"{path}: label model.aibrix.ai/metrics-port is not read: use {labels.MODEL_METRIC_PORT}"
    if text(annotations_of(obj).get(labels.SIDECAR_INJECTION)).lower() == "false":
        yield f"annotation {labels.SIDECAR_INJECTION} is false: no sidecar is injected"


def with_sidecars(obj: Json, image: str) -> Json:
    """The object with the runtime sidecar in each role, when its annotation asks for it."""
    asked = annotations_of(obj).get(labels.SIDECAR_INJECTION)
    template = mapping(obj, "spec", "template")
    roles = mapping(template, "spec").get("roles")
    if not isinstance(asked, str) or asked.lower() == "false" or not isinstance(roles, list):
        return obj
    image = text(annotations_of(obj).get(labels.SIDECAR_IMAGE)) or image
    named = text(annotations_of(template).get(labels.MODEL_ENGINE))
    made = [_with_sidecar(role, Sidecar(image, named)) for role in roles]
    if made == roles:
        return obj
    spec = mapping(template, "spec") | {"roles": made}
    return obj | {"spec": mapping(obj, "spec") | {"template": template | {"spec": spec}}}


def _with_sidecar(role: Any, sidecar: Sidecar) -> Any:
    template = mapping(role, "template")
    return role | {"template": injected(template, sidecar)} if mapping(template, "spec") else role


def _template(spec: Json) -> Iterator[Fault]:
    template, selector = mapping(spec, "template"), mapping(spec, "selector")
    if not isinstance(template.get("spec"), dict):
        yield required("spec.template.spec", "a StormService needs the roles of its RoleSets")
    if is_empty(selector):
        yield invalid("spec.selector", selector, "empty selector is invalid for a StormService")
    elif not _selects_its_own(spec):
        found = mapping(template, "metadata", "labels")
        yield invalid("spec.template.metadata.labels", found, "`selector` does not match template `labels`")


def _selects_its_own(spec: Json) -> bool:
    selector = mapping(spec, "selector")
    return not is_empty(selector) and matches(selector, mapping(spec, "template", "metadata", "labels"))


def _names(obj: Json) -> Iterator[Fault]:
    metadata = mapping(obj, "metadata")
    name = text(metadata.get("name")) or text(metadata.get("generateName")) + GENERATED_SUFFIX
    if len(name) > NAME_LIMIT:
        yield Fault("metadata.name", Kind.TOO_LONG, f"may not be more than {NAME_LIMIT} characters")
    grouped = [text(role.get("name")) for _, role in _roles(mapping(obj, "spec")) if _is_grouped(role)]
    longest = max(grouped, key=len, default=None)
    if longest is not None and len(name) + len(longest) + GROUP_NAME_EXTRA > NAME_LIMIT:
        most = NAME_LIMIT - GROUP_NAME_EXTRA
        detail = f"with podGroupSize above 1 the name and that of role {longest} may have {most} characters together"
        yield invalid("metadata.name", name, detail)


def _is_grouped(role: Json) -> bool:
    return (number(role.get("podGroupSize")) or 1) > 1


def _role_name(name: str, seen: set[str], path: str) -> Iterator[Fault]:
    if not name:
        yield required(path)
    elif not _ROLE_NAME.match(name) or len(name) > NAME_LIMIT:
        yield invalid(path, name, "must be a DNS label: lower case letters, digits and inner dashes")
    if name and name in seen:
        yield Fault(path, Kind.DUPLICATE, value=name)
    seen.add(name)


def _budget(strategy: Json, path: str) -> Iterator[Fault]:
    for field in ("maxSurge", "maxUnavailable"):
        value = strategy.get(field)
        try:
            scaled(value, 100, round_up=True)
        except IntOrStringError as error:
            yield invalid(f"{path}.{field}", value, str(error))


def _is_zero(strategy: Json) -> bool:
    return all(strategy[field] in (0, "0%") for field in ("maxSurge", "maxUnavailable"))


def _roles(spec: Json) -> Iterator[tuple[int, Json]]:
    return mappings(mapping(spec, "template", "spec").get("roles"))

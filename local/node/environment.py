"""A container's environment, command and working directory from the pod's spec: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from local.node.files import Json
from local.node.images import Image
from local.node.quantity import divide_quantity


class ConfigError(Exception):
    """The container cannot be made from what exists: CreateContainerConfigError; retried."""


# Looks up the text data of a ConfigMap or Secret: (kind, name) -> data, None when it does not exist.
Lookup = Callable[[str, str], Mapping[str, str] | None]


@dataclass(frozen=True)
class NodeFacts:
    """What fieldRefs and resourceFieldRefs may ask about the node."""

    name: str
    address: str
    allocatable: Mapping[str, str]


@dataclass(frozen=True)
class PodFacts:
    """What is known about the pod beside its object."""

    pod: Json
    address: str
    node: NodeFacts


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replaces $(NAME) by its value; `$$` is a dollar, an unknown reference stays as it is.

    The rules are those of the Kubernetes API for `command`, `args` and `env[].value`.
    """
    parts, at = [], 0
    while at < len(text):
        if text.startswith("$$", at):
            parts.append("$")
            at += 2
            continue
        end = text.find(")", at) if text.startswith("$(", at) else -1
        if end < 0:
            parts.append(text[at])
            at += 1
            continue
        name = text[at + 2 : end]
        parts.append(values.get(name, text[at : end + 1]))
        at = end + 1
    return "".join(parts)


def field_value(facts: PodFacts, path: str) -> str:
    """The value of a downward API field."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    for kind in ("labels", "annotations"):
        if path.startswith(f"metadata.{kind}['"):
            return str(metadata.get(kind, {}).get(path.split("'")[1], ""))
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "metadata.labels": _listed(metadata.get("labels", {})),
        "metadata.annotations": _listed(metadata.get("annotations", {})),
        "spec.nodeName": facts.node.name,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": facts.address,
        "status.podIPs": facts.address,
        "status.hostIP": facts.node.address,
        "status.hostIPs": facts.node.address,
    }
    if path not in simple:
        raise ConfigError(f"unsupported fieldRef {path}")
    return str(simple[path])


def _listed(pairs: Mapping[str, str]) -> str:
    quoted = (f'{key}="{_escaped(value)}"' for key, value in sorted(pairs.items()))
    return "\n".join(quoted)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(facts: PodFacts, reference: Json, container: Json | None = None) -> str:
    """The value of a resourceFieldRef; a missing limit is the node's allocatable amount."""
    named = reference.get("containerName")
    if named:
        everyone = facts.pod["spec"]["containers"] + facts.pod["spec"].get("initContainers", [])
        container = next((one for one in everyone if one["name"] == named), None)
    if container is None:
        raise ConfigError(f"container {named} not found")
    kind, _, resource = reference["resource"].partition(".")
    resources = container.get("resources", {})
    amount = resources.get(kind, {}).get(resource)
    if amount is None and kind == "limits":
        amount = facts.node.allocatable.get(resource)
    return divide_quantity(amount or "0", reference.get("divisor") or "1")


def environment(facts: PodFacts, container: Json, base: Mapping[str, str], lookup: Lookup) -> dict[str, str]:
    """The container's variables over `base`; raises ConfigError naming what is missing."""
    values: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        values.update(_from_source(source, lookup))
    result = {**base, **values}
    for variable in container.get("env", ()):
        value = _variable(facts, container, variable, result, lookup)
        if value is not None:
            result[variable["name"]] = value
    return result


def _from_source(source: Json, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix", "")
    kind = "ConfigMap" if "configMapRef" in source else "Secret"
    reference = source["configMapRef" if kind == "ConfigMap" else "secretRef"]
    data = lookup(kind, reference["name"])
    if data is None and not reference.get("optional"):
        raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    return {prefix + key: value for key, value in (data or {}).items()}


def _variable(facts: PodFacts, container: Json, variable: Json, known: Mapping[str, str], lookup: Lookup) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expand(variable.get("value", ""), known)
    if "fieldRef" in source:
        return field_value(facts, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_value(facts, source["resourceFieldRef"], container)
    if "configMapKeyRef" in source:
        return _key("ConfigMap", source["configMapKeyRef"], lookup)
    if "secretKeyRef" in source:
        return _key("Secret", source["secretKeyRef"], lookup)
    raise ConfigError(f"unsupported source of variable {variable['name']}")


def _key(kind: str, reference: Json, lookup: Lookup) -> str | None:
    data = lookup(kind, reference["name"])
    if data is not None and reference["key"] in data:
        return data[reference["key"]]
    if reference.get("optional"):
        return None
    if data is None:
        raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
    raise ConfigError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")


def command_line(container: Json, image: Image, values: Mapping[str, str]) -> list[str]:
    """`command` replaces the image's own command and drops its arguments, `args` follow; both are expanded."""
    command: Sequence[str] = container.get("command") or image.command
    words = [*command, *container.get("args", ())] if container.get("command") or container.get("args") else [*command]
    expanded = [expand(word, values) for word in words]
    if not expanded:
        raise ConfigError("no command specified")
    return expanded


def referenced_objects(container: Json) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets that the container's environment reads."""
    found = set()
    for source in container.get("envFrom", ()):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                found.add((kind, source[field]["name"]))
    for variable in container.get("env", ()):
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            reference = (variable.get("valueFrom") or {}).get(field)
            if reference:
                found.add((kind, reference["name"]))
    return found

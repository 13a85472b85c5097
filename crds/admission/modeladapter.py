"""ModelAdapter: its artifact has to come from a place that brixflow can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from crds.admission.faults import Fault, invalid
from crds.admission.values import mapping, number, text

Json = dict[str, Any]

PREFIXES = ("s3://", "gcs://", "tos://", "huggingface://", "hf://", "/")
_ABSOLUTE = re.compile(r"(/|[A-Za-z][A-Za-z0-9+.-]*:)[^\x00-\x20\x7f]*\Z")
_SECRET_KEY = "api-key"  # noqa: S105 - the name of a field, not a secret


def faults(obj: Json) -> Iterator[Fault]:
    spec = mapping(obj, "spec")
    address = text(spec.get("artifactURL"))
    if not _ABSOLUTE.match(address):
        yield invalid("spec.artifactURL", address, "must be an absolute URL or an absolute path")
    replicas = number(spec.get("replicas"))
    if replicas is not None and replicas <= 0:
        yield invalid("spec.replicas", replicas, "must be greater than 0")
    if not address.startswith(PREFIXES):
        yield invalid("spec.artifactURL", address, f"unsupported schema, must begin with {', '.join(PREFIXES)}")


def warnings(obj: Json) -> Iterator[str]:
    spec = mapping(obj, "spec")
    if mapping(spec, "additionalConfig").get(_SECRET_KEY):
        yield "spec.additionalConfig[api-key] is stored in clear text: use spec.credentialsSecretRef"
    selector = mapping(spec, "podSelector")
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield "spec.podSelector is empty and selects every pod of the namespace"

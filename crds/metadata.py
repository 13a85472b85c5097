"""What labels and annotations say: a model's name and port, its routes, its connector. One reading for all rooms.

A label wins over the annotation of the same key, and an empty value counts as absent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from crds import labels

Strings = Mapping[str, str]

ROUTE_SUFFIX: Final = "-router"
ROUTE_HASH_LENGTH: Final = 12
SUBDOMAIN_LIMIT: Final = 253
GRANT_PREFIX: Final = "aibrix-system-reserved-referencegrant-in-"
KV_CONNECTORS: Final = ("shfs", "nixl", "mooncake")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z", re.ASCII)


def model_name(own_labels: Strings, annotations: Strings) -> str:
    """The served model's name; empty when the object is no model."""
    return own_labels.get(labels.MODEL_NAME) or annotations.get(labels.MODEL_NAME) or ""


def model_port(own_labels: Strings) -> int:
    """From 1 to 65535; a missing or bad label means 8000."""
    return _port(own_labels.get(labels.MODEL_PORT, ""), labels.DEFAULT_MODEL_PORT)


def kv_connector(own_labels: Strings, default: str) -> str:
    """How prefill and decode hand over: one of KV_CONNECTORS in any case, else `default`."""
    found = own_labels.get(labels.MODEL_KV_CONNECTOR, "").lower()
    return found if found in KV_CONNECTORS else default


def sends_kv_events(own_labels: Strings) -> bool:
    """Only the exact value `true` counts."""
    return own_labels.get(labels.MODEL_KV_EVENTS) == "true"


def custom_paths(annotations: Strings) -> list[str]:
    """Further path prefixes of a model's route, in order and each once."""
    listed = annotations.get(labels.MODEL_CUSTOM_PATHS, "").split(",")
    return list(dict.fromkeys(path for part in listed if (path := "".join(part.split()))))


def route_name(model: str) -> str:
    """Name of a model's HTTPRoute: a valid DNS subdomain, always the same for the same model.

    A name that is none is made one, with part of its SHA-256 so that two models do not meet.
    """
    plain = model + ROUTE_SUFFIX
    if len(plain) <= SUBDOMAIN_LIMIT and _SUBDOMAIN.match(plain):
        return plain
    end = f"-{hashlib.sha256(model.encode()).hexdigest()[:ROUTE_HASH_LENGTH]}{ROUTE_SUFFIX}"
    front = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"
    return front[: SUBDOMAIN_LIMIT - len(end)].rstrip("-") + end


def reference_grant_name(namespace: str) -> str:
    return GRANT_PREFIX + namespace


def port_annotation(annotations: Strings, key: str, default: int) -> int:
    """A port that an annotation sets: what is no port is the default."""
    return _port(annotations.get(key, ""), default)


def positive_annotation(annotations: Strings, key: str, default: int) -> int:
    """A number above 0 that an annotation sets: what is none is the default."""
    value = annotations.get(key, "")
    return int(value) if _is_number(value) and int(value) > 0 else default


def text_annotation(annotations: Strings, key: str, default: str) -> str:
    return annotations.get(key) or default


def _port(value: str, default: int) -> int:
    return int(value) if _is_number(value) and 0 < int(value) < 65536 else default


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 20

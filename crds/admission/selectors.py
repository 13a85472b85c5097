"""Label selectors of objects that nobody has checked yet."""

from __future__ import annotations

from typing import Any

from crds.admission.values import items, mapping, mappings

Json = dict[str, Any]


def is_empty(selector: Json) -> bool:
    return not mapping(selector, "matchLabels") and not items(selector.get("matchExpressions"))


def matches(selector: Json, labels: Json) -> bool:
    """Whether objects with `labels` are selected; an operator that nobody knows selects nothing."""
    return all(labels.get(key) == value for key, value in mapping(selector, "matchLabels").items()) and all(
        _expression_matches(part, labels) for _, part in mappings(selector.get("matchExpressions"))
    )


def _expression_matches(part: Json, labels: Json) -> bool:
    key, values = part.get("key"), items(part.get("values"))
    answers = {
        "In": key in labels and labels[key] in values,
        "NotIn": key not in labels or labels[key] not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return answers.get(str(part.get("operator")), False)

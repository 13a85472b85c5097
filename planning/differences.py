"""What is different between two templates, in words a person can check: one line a field.

Lines end in histories and Events, so a value is shown only where it cannot be a secret (images, resources, numbers of
replicas); of others the line says that they changed. `values=True` shows them all, for the terminal of whoever may read
the object anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]
MAX_LINES: Final = 12
LONGEST_VALUE: Final = 120
SMALL: Final = 3
_SHOWN: Final = frozenset({
    "image", "imagePullPolicy", "replicas", "podGroupSize", "containerPort", "terminationGracePeriodSeconds",
    "stateful", "upgradeOrder", "maxSurge", "maxUnavailable", "type", "nodeName", "schedulerName", "runtimeClassName",
    "priorityClassName", "updateStrategy", "minReadySeconds", "drainSeconds", "recoveryPolicy",
    "kubectl.kubernetes.io/restartedAt",
})  # fmt: skip
_SHOWN_BELOW: Final = frozenset({"resources", "nodeSelector"})


def differences(before: Any, after: Any, *, values: bool = False) -> list[str]:
    """Sorted by path; at most twelve lines, the last then says how many more there are."""
    lines = list(_walk("", before, after, values))
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"and {len(lines) - MAX_LINES + 1} more fields"]
    return lines


def _walk(path: str, before: Any, after: Any, values: bool) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _walk(_joined(path, key), before.get(key), after.get(key), values)
    elif _is_named(before) and _is_named(after):
        one, two = _by_name(before), _by_name(after)
        for name in sorted(one.keys() | two.keys()):
            yield from _walk(f"{path}[{name}]", one.get(name), two.get(name), values)
        if one == two:
            yield f"{path}: other order"
    elif isinstance(before, dict) and after is None:
        yield from _walk(path, before, {}, values) if _is_small(before) else [f"{path}: removed"]
    elif isinstance(after, dict) and before is None:
        yield from _walk(path, {}, after, values) if _is_small(after) else [f"{path}: added"]
    else:
        yield _leaf(path, before, after, values)


def _is_small(value: Json) -> bool:
    """A few plain fields: telling them says more than that they came together."""
    return 0 < len(value) <= SMALL and not any(isinstance(part, dict | list) for part in value.values())


def _joined(path: str, key: str) -> str:
    if "/" in key or "." in key:
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _is_named(value: Any) -> bool:
    """A list of objects that are told apart by their names; an absent one is empty."""
    if value is None:
        return False
    return isinstance(value, list) and all(isinstance(part, dict) and "name" in part for part in value)


def _by_name(parts: list[Json]) -> dict[str, Json]:
    return {str(part["name"]): part for part in parts}


def _leaf(path: str, before: Any, after: Any, values: bool) -> str:
    if not (values or _may_be_shown(path)):
        word = "added" if before is None else "removed" if after is None else "changed"
        return f"{path}: {word}"
    if isinstance(before, list) and isinstance(after, list):
        return f"{path}: {_moved(before, after)}"
    return f"{path}: {_shown(before)} → {_shown(after)}"


def _may_be_shown(path: str) -> bool:
    parts = path.replace("[", ".").replace("]", "").split(".")
    return any(path.endswith(f"[{name}]") or parts[-1] == name for name in _SHOWN) or bool(_SHOWN_BELOW & {*parts[:-1]})


def _moved(before: list[Any], after: list[Any]) -> str:
    """The entries of a plain list that went and that came."""
    gone = [f"-{_shown(part)}" for part in before if part not in after]
    come = [f"+{_shown(part)}" for part in after if part not in before]
    return " ".join([*gone, *come]) or "other order"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"

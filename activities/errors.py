"""Why a call to the API server did not succeed, and whether trying again can help.

    KubeError
    ├── KubeRetry                 the same call may succeed later
    │   ├── KubeThrottled         429, 503 with Retry-After: `retry_after` says when
    │   ├── KubeUnauthorized      401: credentials are read again
    │   ├── KubeUnavailable       5xx: the server answered that it could not
    │   └── KubeAmbiguous         no answer: nobody knows whether the call was carried out
    └── KubeFinal                 the same call fails again until something else changes
        ├── KubeInvalid           400, 405, 406, 413, 415, 422
        ├── KubeForbidden         403
        ├── KubeQuota             403 of the quota admission
        ├── KubeNotFound          404
        ├── KubeExists            409 AlreadyExists
        ├── KubeConflict          409: resourceVersion, uid or field ownership differ
        └── KubeExpired           410: the resourceVersion is too old, list again

One table maps status to class; a 403 and a 409 are told apart by the `Status` object in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from planning.wire import Cause

MESSAGE_LIMIT = 500
"""Characters kept of a server's message: it goes into histories, conditions and Events."""


class KubeError(Exception):
    """A failed call: HTTP status (0 without an answer), the Status object's reason and the object's name, a message."""

    cause: ClassVar[Cause] = "unavailable"

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", about: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message[:MESSAGE_LIMIT])
        self.status = status
        self.reason = reason
        self.about = about
        self.retry_after = retry_after


class KubeRetry(KubeError):  # noqa: N818 - a class of errors, named by its remedy
    """The same call may succeed later."""


class KubeThrottled(KubeRetry):
    """The server asks for patience: `retry_after` seconds."""


class KubeUnauthorized(KubeRetry):
    """The credentials are not accepted; they are read again before the next call."""

    cause: ClassVar[Cause] = "forbidden"


class KubeUnavailable(KubeRetry):
    """The server answered that it could not."""


class KubeAmbiguous(KubeRetry):
    """No answer came back: the call may have been carried out."""


class KubeFinal(KubeError):  # noqa: N818 - a class of errors, named by its remedy
    """The same call fails again until something else changes."""


class KubeInvalid(KubeFinal):
    """The server does not accept the body."""

    cause: ClassVar[Cause] = "invalid"


class KubeForbidden(KubeFinal):
    """RBAC, an admission rule or a terminating namespace refuses the call."""

    cause: ClassVar[Cause] = "forbidden"


class KubeQuota(KubeForbidden):
    """A ResourceQuota is used up."""

    cause: ClassVar[Cause] = "quota"


class KubeNotFound(KubeFinal):
    """No such object, or no such kind."""

    cause: ClassVar[Cause] = "not-found"


class KubeExists(KubeFinal):
    """An object of that name exists."""

    cause: ClassVar[Cause] = "name-conflict"


class KubeConflict(KubeFinal):
    """The object has moved on since it was read."""

    cause: ClassVar[Cause] = "conflict"


class KubeExpired(KubeFinal):
    """The resourceVersion is too old: list again."""

    cause: ClassVar[Cause] = "conflict"


TABLE: Mapping[int, type[KubeError]] = {
    400: KubeInvalid,
    401: KubeUnauthorized,
    403: KubeForbidden,
    404: KubeNotFound,
    405: KubeInvalid,
    406: KubeInvalid,
    408: KubeUnavailable,
    409: KubeConflict,
    410: KubeExpired,
    413: KubeInvalid,
    415: KubeInvalid,
    422: KubeInvalid,
    429: KubeThrottled,
}


def error_from(status: int, body: bytes, retry_after: float | None = None) -> KubeError:
    """The error of an answer: `body` is a Status object if the API server itself answered, any bytes otherwise."""
    said = _status_object(body)
    reason = str(said.get("reason", ""))
    message = str(said.get("message") or body[:MESSAGE_LIMIT].decode(errors="replace") or f"HTTP {status}")
    about = str((said.get("details") or {}).get("name", ""))
    kind = _class_of(status, reason, message, retry_after)
    return kind(message, status=status, reason=reason, about=about, retry_after=retry_after)


def _class_of(status: int, reason: str, message: str, retry_after: float | None) -> type[KubeError]:
    if status == 403 and "exceeded quota" in message:
        return KubeQuota
    if status == 409 and reason == "AlreadyExists":
        return KubeExists
    if status == 503 and retry_after is not None:
        return KubeThrottled
    if status == 504:
        return KubeAmbiguous
    return TABLE.get(status, KubeUnavailable if status >= 500 else KubeInvalid)


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}

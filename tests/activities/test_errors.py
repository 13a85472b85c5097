"""One table from an HTTP answer to a class, and what each class means for a step."""

from __future__ import annotations

import json

import pytest

from activities import errors
from activities.errors import KubeError, KubeFinal, KubeRetry, error_from


def answer(reason: str, message: str = "", name: str = "") -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": message, "details": {"name": name}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "cause"),
    [
        (400, answer("BadRequest"), errors.KubeInvalid, "invalid"),
        (401, answer("Unauthorized"), errors.KubeUnauthorized, "forbidden"),
        (403, answer("Forbidden", "pods is forbidden: exceeded quota: small"), errors.KubeQuota, "quota"),
        (403, answer("Forbidden", "cannot create resource pods"), errors.KubeForbidden, "forbidden"),
        (404, answer("NotFound"), errors.KubeNotFound, "not-found"),
        (404, b"404 page not found", errors.KubeNotFound, "not-found"),
        (409, answer("AlreadyExists"), errors.KubeExists, "name-conflict"),
        (409, answer("Conflict"), errors.KubeConflict, "conflict"),
        (410, answer("Expired"), errors.KubeExpired, "conflict"),
        (413, b"", errors.KubeInvalid, "invalid"),
        (422, answer("Invalid"), errors.KubeInvalid, "invalid"),
        (429, answer("TooManyRequests"), errors.KubeThrottled, "unavailable"),
        (500, answer("InternalError"), errors.KubeUnavailable, "unavailable"),
        (503, b"upstream", errors.KubeUnavailable, "unavailable"),
        (504, answer("Timeout"), errors.KubeAmbiguous, "unavailable"),
    ],
)
def test_each_answer_has_one_class(status: int, body: bytes, kind: type[KubeError], cause: str) -> None:
    error = error_from(status, body)
    assert type(error) is kind
    assert error.cause == cause
    assert isinstance(error, KubeRetry) != isinstance(error, KubeFinal)


def test_a_503_that_says_when_is_a_request_for_patience() -> None:
    error = error_from(503, b"", retry_after=2.0)
    assert isinstance(error, errors.KubeThrottled)
    assert error.retry_after == 2.0


def test_a_missing_object_is_told_from_a_missing_kind_by_its_name() -> None:
    assert error_from(404, answer("NotFound", name="llama")).about == "llama"
    assert error_from(404, b"404 page not found").about == ""


def test_messages_stay_short() -> None:
    assert len(str(error_from(422, answer("Invalid", "x" * 10_000)))) == errors.MESSAGE_LIMIT

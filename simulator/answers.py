"""JSON answers, and the arguments that come with a path."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.responses import encode
from simulator.wire import Request, Response

JSON_HEADERS = {"content-type": "application/json"}


def json_response(body: object, status: int = 200) -> Response:
    return Response(status, encode(body), JSON_HEADERS)


def arguments(request: Request) -> Mapping[str, list[str]]:
    """Return the values of each argument after the question mark."""
    if not request.query:
        return {}
    from urllib.parse import parse_qs

    return parse_qs(request.query, keep_blank_values=True, errors="replace")

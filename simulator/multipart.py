"""Forms of several parts (RFC 7578), as audio and video uploads come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.errors import InvalidFieldsError, RouteError
from simulator.wire import Request

MOST_PARTS = 1000
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(r'\bname="([^"]*)"')
_FILE_NAME = re.compile(r'\bfilename="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Part:
    """One field: its bytes, and the name of the file if it is one."""

    content: bytes
    file_name: str | None

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


Form = Mapping[str, Part]


def read_form(request: Request) -> Form:
    """Return the parts by name, the last of a name winning. Raises RouteError for what is no such form."""
    content_type = request.headers.get("content-type", "")
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or found is None:
        raise _unreadable()
    boundary = b"--" + (found.group(1) or found.group(2)).encode("latin-1", "replace")
    pieces = (b"\r\n" + request.body).split(b"\r\n" + boundary)
    if len(pieces) < 2 or len(pieces) > MOST_PARTS or not pieces[-1].startswith(b"--"):
        raise _unreadable()
    return dict(_part(piece) for piece in pieces[1:-1])


def required_text(form: Form, name: str) -> str:
    """Return the text of a field that must be there. Raises InvalidFieldsError."""
    part = form.get(name)
    if part is None or not part.content:
        raise InvalidFieldsError("missing", f"body.{name}", "Field required", dict.fromkeys(form))
    return part.text


def _part(piece: bytes) -> tuple[str, Part]:
    head, separator, content = piece.partition(b"\r\n\r\n")
    text = head.decode("utf-8", "replace")
    name = _NAME.search(text)
    if not separator or name is None or "content-disposition:" not in text.lower():
        raise _unreadable()
    file_name = _FILE_NAME.search(text)
    return name.group(1), Part(content, None if file_name is None else file_name.group(1))


def _unreadable() -> RouteError:
    return RouteError(400, "There was an error parsing the body")

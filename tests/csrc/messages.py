"""ProcessingRequests as Envoy sends them and ProcessingResponses as Envoy reads them, by xds-protos: the oracle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

from csrc.binding import End, Flow, Pod, SegmentReader

CHAT = "/v1/chat/completions"


def header_map(headers: dict[str, str | bytes]) -> Any:
    message = ext_proc.HttpHeaders().headers
    for name, value in headers.items():
        message.headers.add(key=name, raw_value=value if isinstance(value, bytes) else value.encode())
    return message


def request_headers(headers: dict[str, str | bytes], end: bool = False) -> bytes:
    content = ext_proc.HttpHeaders(headers=header_map(headers), end_of_stream=end)
    return ext_proc.ProcessingRequest(request_headers=content).SerializeToString()


def response_headers(status: str, end: bool = False, **headers: str) -> bytes:
    content = ext_proc.HttpHeaders(headers=header_map({":status": status, **headers}), end_of_stream=end)
    return ext_proc.ProcessingRequest(response_headers=content).SerializeToString()


def request_body(body: bytes, end: bool = True) -> bytes:
    return ext_proc.ProcessingRequest(request_body=ext_proc.HttpBody(body=body, end_of_stream=end)).SerializeToString()


def response_body(body: bytes, end: bool = True) -> bytes:
    return ext_proc.ProcessingRequest(response_body=ext_proc.HttpBody(body=body, end_of_stream=end)).SerializeToString()


def request_trailers() -> bytes:
    return ext_proc.ProcessingRequest(request_trailers=ext_proc.HttpTrailers()).SerializeToString()


def response_trailers() -> bytes:
    return ext_proc.ProcessingRequest(response_trailers=ext_proc.HttpTrailers()).SerializeToString()


@dataclass(frozen=True, slots=True)
class Answer:
    """One ProcessingResponse in plain values. `status` is 0 unless it is a reply of ours."""

    kind: str
    status: int
    set: dict[str, str]
    removed: list[str]
    body: bytes | None
    clears_route: bool
    raw: Any = field(repr=False)

    @property
    def error(self) -> dict[str, Any]:
        envelope = json.loads(self.body or b"")
        assert set(envelope) == {"error"}
        assert set(envelope["error"]) == {"message", "type", "code", "param"}
        return dict(envelope["error"])


def _mutation(mutation: Any) -> tuple[dict[str, str], list[str]]:
    for option in mutation.set_headers:
        assert option.header.value == ""
        assert option.append_action == 2
    lines = {option.header.key: option.header.raw_value.decode("latin-1") for option in mutation.set_headers}
    return lines, list(mutation.remove_headers)


def read_answer(raw: bytes) -> Answer:
    message = ext_proc.ProcessingResponse.FromString(raw)
    kind = message.WhichOneof("response")
    assert kind is not None
    content = getattr(message, kind)
    if kind == "immediate_response":
        lines, removed = _mutation(content.headers)
        return Answer(kind, content.status.code, lines, removed, content.body, False, message)
    if kind.endswith("trailers"):
        lines, removed = _mutation(content.header_mutation)
        return Answer(kind, 0, lines, removed, None, False, message)
    common = content.response
    lines, removed = _mutation(common.header_mutation)
    body = _changed_body(common.body_mutation)
    return Answer(kind, 0, lines, removed, body, common.clear_route_cache, message)


def _changed_body(mutation: Any) -> bytes | None:
    which = mutation.WhichOneof("mutation")
    if which is None:
        return None
    return b"" if which == "clear_body" else bytes(mutation.body)


class Request:
    """One request through the kernel, as a client and an engine see it."""

    def __init__(self, reader: SegmentReader, trace_id: str = "") -> None:
        self.flow: Flow = reader.begin(trace_id)

    def tell(self, message: bytes) -> Answer:
        return read_answer(self.flow.process(message))

    def headers(self, path: str = CHAT, method: str = "POST", end: bool = False, **headers: str | bytes) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.tell(request_headers({":method": method, ":path": path, **named}, end))

    def body(self, body: object, end: bool = True) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.tell(request_body(raw, end))

    def answer_headers(self, status: int = 200, end: bool = False, **headers: str) -> Answer:
        return self.tell(response_headers(str(status), end, **headers))

    def answer_body(self, body: bytes = b"{}", end: bool = True) -> Answer:
        return self.tell(response_body(body, end))

    def close(self, end: End = End.STREAM) -> None:
        self.flow.close(end)


def chat(model: str = "llama2-7b", **members: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **members}


def pod(number: int, ready: bool = True, **labels: str) -> Pod:
    return Pod(
        key=f"uid-{number}",
        namespace="default",
        name=f"pod-{number}",
        address=f"10.86.0.{number}:8000",
        ready=ready,
        labels=labels,
    )

"""One ext_proc stream as Envoy would hold it, in Envoy's own protobuf messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc.aio
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
)

from tests.gateway.rig import chat

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class Exchange:
    """One ext_proc stream, a reply for each message."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )()

    async def say(self, **message: Any) -> ProcessingResponse:
        await self.call.write(ProcessingRequest(**message))
        answer: ProcessingResponse = await self.call.read()
        return answer

    async def request(self, model: str, headers: Mapping[str, str] | None = None, **fields: Any) -> ProcessingResponse:
        """Request headers and body of a chat; the reply to the body."""
        headed = {":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json"}
        headed |= headers or {}
        reply = await self.say(request_headers=HttpHeaders(headers=header_map(headed)))
        assert reply.WhichOneof("response") == "request_headers"
        assert headers_set(reply.request_headers)["x-went-into-req-headers"] == "true"
        return await self.say(
            request_body=HttpBody(body=json.dumps(chat(model, **fields)).encode(), end_of_stream=True)
        )

    async def respond(self, kind: str = "application/json") -> ProcessingResponse:
        headed = {":status": "200", "content-type": kind}
        return await self.say(response_headers=HttpHeaders(headers=header_map(headed)))


def header_map(headers: dict[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=key, raw_value=value.encode()) for key, value in headers.items()])


def headers_set(reply: Any) -> dict[str, str]:
    """Headers that a reply sets; every value stands in raw_value."""
    options = reply.response.header_mutation.set_headers
    assert not [each for each in options if each.header.value]
    return {each.header.key: each.header.raw_value.decode() for each in options}

"""A small engine for the gateway's tests: `engine.py HOST:PORT`. The request's own headers say how to answer.

| header | meaning |
|---|---|
| x-engine-status, x-engine-body, x-engine-type | status, body and content type of the answer |
| x-engine-delay | seconds before the first byte |
| x-engine-chunks, x-engine-gap | events of a streamed answer, seconds between them |
| x-engine-drop | the address of the engine that ends the connection without a byte of an answer |
| x-engine-die, x-engine-cut | after this event end the process, or just the connection |

`GET /seen` lists the requests so far but those for metrics. `GET /metrics` answers what `PUT /metrics` gave, 404
before. Only the standard library, so that it starts at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18},
}  # fmt: skip
Headers = Mapping[str, str]


class Engine:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.page: bytes | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await read_head(reader):
                method, path, headers = head
                body = await read_body(reader, headers)
                if path == "/metrics":
                    self.page = body if method == "PUT" else self.page
                    write_answer(
                        writer, 200 if self.page or method == "PUT" else 404, "text/plain", self.page or b"none"
                    )
                elif path == "/seen":
                    write_answer(writer, 200, "application/json", json.dumps(self.seen).encode())
                else:
                    self.note(method, path, headers, body)
                    await self.answer(writer, headers, body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def note(self, method: str, path: str, headers: Headers, body: bytes) -> None:
        """Remember a request; of bodies the last text that came."""
        for earlier in self.seen:
            earlier.pop("body", None)
        seen = {"method": method, "path": path, "headers": dict(headers), "bytes": len(body)}
        self.seen.append(seen | {"body": body.decode("latin-1")})

    async def answer(self, writer: asyncio.StreamWriter, headers: Headers, body: bytes) -> None:
        await asyncio.sleep(float(headers.get("x-engine-delay", "0")))
        if headers.get("x-engine-drop") == sys.argv[1]:
            raise ConnectionError
        if "x-engine-status" not in headers and b'"stream":true' in body.replace(b" ", b""):
            await stream(writer, headers, b'"include_usage":true' in body.replace(b" ", b""))
            return
        fixed = headers.get("x-engine-body")
        payload = json.dumps(CHAT).encode() if fixed is None else fixed.encode()
        kind = headers.get("x-engine-type", "application/json")
        write_answer(writer, int(headers.get("x-engine-status", "200")), kind, payload)


async def read_head(reader: asyncio.StreamReader) -> tuple[str, str, Headers] | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ")
    return method, path, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def read_body(reader: asyncio.StreamReader, headers: Headers) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", "0")))


def write_answer(writer: asyncio.StreamWriter, status: int, kind: str, payload: bytes) -> None:
    head = f"HTTP/1.1 {status} Fixed\r\ncontent-type: {kind}\r\ncontent-length: {len(payload)}\r\n\r\n"
    writer.write(head.encode() + payload)


async def stream(writer: asyncio.StreamWriter, headers: Headers, with_usage: bool) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    if "x-engine-role" in headers:
        write_chunk(writer, b'data: {"choices":[{"delta":{"role":"assistant","content":""}}],"model":"m"}\n\n')
        await writer.drain()
        await asyncio.sleep(float(headers["x-engine-role"]))
    for index in range(int(headers.get("x-engine-chunks", "3"))):
        if headers.get("x-engine-die") == str(index):
            os._exit(1)
        if headers.get("x-engine-cut") == str(index):
            raise ConnectionError
        write_chunk(writer, b'data: {"choices":[{"delta":{"content":"%d"}}],"model":"m"}\n\n' % index)
        await writer.drain()
        await asyncio.sleep(float(headers.get("x-engine-gap", "0")))
    if with_usage:
        write_chunk(
            writer, b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}\n\n'
        )
    write_chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


def write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    server = await asyncio.start_server(Engine().serve, host, int(port), limit=1 << 20)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

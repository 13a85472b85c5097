"""An engine that streams: each answer is so many server-sent events, one every so many seconds.

    python -m benchmarks.chunks PORT [CHUNKS PAUSE_SECONDS]

It serves the gateway's benchmarks: how many response chunks a second a front passes on, and how evenly.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import uvloop

MODEL = "chunks"
CHUNKS = 40
PAUSE_SECONDS = 0.001
HEADER = "x-bench-chunks"
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"token "}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
END = b"0\r\n\r\n"


class Engine(asyncio.Protocol):
    """One connection; requests carry a body that ends with a closing brace and come one after the other."""

    def __init__(self, chunks: int, pause: float) -> None:
        self._chunks, self._pause = chunks, pause

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the body is there."""
        if data.endswith(b"}"):
            self._transport.write(HEAD)
            self._send(self._chunks)

    def _send(self, left: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(CHUNK if left else END)
        if left:
            asyncio.get_running_loop().call_later(self._pause, self._send, left - 1)


def write_script(folder: Path) -> Path:
    """wrk's request for a stream."""
    body = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "go on"}]})
    script = folder / "chunks.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.path = "/v1/chat/completions"\n'
        f'wrk.headers["content-type"] = "application/json"\nwrk.headers["{HEADER}"] = "1"\nwrk.body = [==[{body}]==]\n'
    )
    return script


async def serve(port: int, chunks: int = CHUNKS, pause: float = PAUSE_SECONDS) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Engine(chunks, pause), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    PORT, *PACE = sys.argv[1:]
    uvloop.run(serve(int(PORT), *([int(PACE[0]), float(PACE[1])] if PACE else ())))

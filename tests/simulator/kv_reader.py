"""A reader of KV events as a gateway is one: SUB and DEALER sockets, msgpack, both encodings."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import zmq
import zmq.asyncio

END_OF_REPLAY = b"\xff" * 8
DEADLINE_SECONDS = 10


class KVReader:
    """Collects the messages of one publisher. Close it: an open socket would keep the interpreter from ending."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self._events = self._context.socket(zmq.SUB)
        self._events.subscribe(b"")
        self._events.connect(endpoint)

    async def until(self, count: int) -> list[list[bytes]]:
        """Return the next `count` messages as frames."""
        return [await asyncio.wait_for(self._events.recv_multipart(), DEADLINE_SECONDS) for _ in range(count)]

    async def silent(self, seconds: float = 0.2) -> bool:
        """Return whether nothing comes for a while."""
        return not await self._events.poll(int(seconds * 1000))

    async def replay(self, endpoint: str, start: int) -> list[list[bytes]]:
        """Return all messages of a replay answer, the end marker last."""
        dealer = self._context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        await dealer.send_multipart([b"", start.to_bytes(8, "big")])
        messages: list[list[bytes]] = []
        while not messages or END_OF_REPLAY not in messages[-1]:
            messages.append(await asyncio.wait_for(dealer.recv_multipart(), DEADLINE_SECONDS))
        dealer.close()
        return messages

    def close(self) -> None:
        self._context.destroy(linger=0)


def decode(frames: list[bytes]) -> tuple[int, float, list[Any], int]:
    """Return sequence number, time, events and rank of one message."""
    at, events, rank = msgpack.unpackb(frames[2])
    return int.from_bytes(frames[1], "big"), at, events, rank

"""Sends cache events over ZeroMQ as engines do: a PUB socket for what happens, a ROUTER socket for what happened.

A message is topic, sequence number (eight bytes, big-endian, from 0) and the packed batch. A replay request is an empty
frame and a start sequence; the answer is every retained batch from there on and an end marker. ZeroMQ is loaded only
where events are switched on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from simulator.kv_events import CacheEvent, EncodingName, HashForm, payload

END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)
HIGH_WATER_MARK = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KVEventSettings:
    """Where and how events are sent. Each data-parallel rank adds its number to both ports."""

    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    buffer_steps: int = 10_000
    topic: str = ""
    encoding: EncodingName = "map"
    hash_form: HashForm = "int"


class KVEventPublisher:
    """The publisher of one rank."""

    def __init__(self, settings: KVEventSettings, rank: int = 0) -> None:
        self._zmq: Any = import_module("zmq")
        self._pack: Any = import_module("msgpack").packb
        self._settings = settings
        self._rank = rank
        self._topic = settings.topic.encode()
        self._sequence = 0
        self._buffer: deque[tuple[bytes, bytes]] = deque(maxlen=settings.buffer_steps)
        self._context = self._zmq.Context()
        self._publish: Any = None
        self._replay: Any = None

    def open(self) -> None:
        """Bind the sockets and begin to answer replay requests; raises OSError when a port is taken."""
        self._publish = self._bind(self._zmq.PUB, self._settings.endpoint)
        if self._settings.replay_endpoint:
            self._replay = self._bind(self._zmq.ROUTER, self._settings.replay_endpoint)
            asyncio.get_running_loop().add_reader(self._replay.fileno(), self._answer_replays)

    def close(self) -> None:
        if self._replay is not None:
            asyncio.get_running_loop().remove_reader(self._replay.fileno())
        self._context.destroy(linger=0)

    def __call__(self, events: list[CacheEvent]) -> None:
        """Send one batch."""
        settings = self._settings
        batch = payload(time.time(), events, self._rank, settings.encoding, settings.hash_form)
        packed: bytes = self._pack(batch)
        sequence = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        self._buffer.append((sequence, packed))
        if self._publish is not None:
            self._publish.send_multipart((self._topic, sequence, packed), flags=self._zmq.NOBLOCK)

    def _bind(self, kind: int, endpoint: str) -> Any:
        socket = self._context.socket(kind)
        socket.setsockopt(self._zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(self._zmq.IPV6, 1)
        try:
            socket.bind(shifted(endpoint, self._rank))
        except self._zmq.ZMQError as error:
            raise OSError(error.errno, f"{endpoint}: {error}") from error
        return socket

    def _answer_replays(self) -> None:
        """Answer all requests that are there: the descriptor tells of a change only once."""
        while self._replay.getsockopt(self._zmq.EVENTS) & self._zmq.POLLIN:
            identity, *frames = self._replay.recv_multipart()
            if len(frames) == 2 and len(frames[1]) == 8:
                self._send_from(identity, frames[1])

    def _send_from(self, identity: bytes, start: bytes) -> None:
        topic = () if self._settings.encoding == "array" else (self._topic,)
        for sequence, packed in self._buffer:
            if sequence >= start:
                self._replay.send_multipart((identity, b"", *topic, sequence, packed))
        end = () if self._settings.encoding == "array" else (b"",)
        self._replay.send_multipart((identity, b"", *end, END_OF_REPLAY, b""))


def shifted(endpoint: str, rank: int) -> str:
    """Return the endpoint with `rank` added to its port; endpoints without a port get the rank as a suffix."""
    address, colon, port = endpoint.rpartition(":")
    if colon and port.isdigit():
        return f"{address}:{int(port) + rank}"
    return f"{endpoint}_{rank}" if rank else endpoint

"""The recordings of a real vLLM 0.32.0, decoded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgpack

FOLDER = Path(__file__).resolve().parents[1] / "data" / "recordings" / "vllm-0.32"


def recorded_frames() -> list[tuple[str, list[bytes]]]:
    """Return the event messages as frames, each with the name of the request that caused it."""
    entries = map(json.loads, (FOLDER / "kv-events.jsonl").read_text().splitlines())
    return [(entry["during"], [base64.b64decode(frame) for frame in entry["frames_b64"]]) for entry in entries]


def recorded_batches() -> list[tuple[str, Any]]:
    """Return the payloads of the event messages: time, events, rank."""
    return [(during, msgpack.unpackb(frames[2])) for during, frames in recorded_frames()]


def recorded_replay() -> list[list[bytes]]:
    """Return the frames of each message of a replay answer."""
    reply = json.loads((FOLDER / "kv-replay.json").read_text())["reply_frames_b64"]
    return [[base64.b64decode(frame) for frame in message] for message in reply]


def recorded_pairs() -> dict[str, Any]:
    """Return the HTTP requests with their responses by name."""
    return {pair["name"]: pair for pair in json.loads((FOLDER / "http.json").read_text())}


def recorded_metrics(name: str) -> str:
    return (FOLDER / f"metrics-{name}.txt").read_text()

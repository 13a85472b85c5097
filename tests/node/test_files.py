"""Logs, volumes and frames: what the agent reads and writes, without a cluster."""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.node.logs import LogQuery, read_log
from local.node.portforward import FIN, SYN_STREAM, FrameReader, HeaderCodec, control_frame, data_frame
from local.node.spdy_dictionary import DICTIONARY
from local.node.volumes import Content, write_content

LINES = [f"2026-01-01T00:00:{at:02d}.123456789Z stdout F line {at}" for at in range(10)]


async def read(path: Path, **fields: object) -> list[str]:
    query = LogQuery(**fields)  # type: ignore[arg-type] # a table of fields
    pieces = [piece async for piece in read_log(path, query, lambda: True)]
    return b"".join(pieces).decode().splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


async def test_a_log_is_its_text(log: Path) -> None:
    assert await read(log) == [f"line {at}" for at in range(10)]


async def test_the_tail_is_the_last_lines(log: Path) -> None:
    assert await read(log, tail=2) == ["line 8", "line 9"]
    assert await read(log, tail=0) == []
    assert len(await read(log, tail=50)) == 10


async def test_since_leaves_out_what_is_older(log: Path) -> None:
    assert await read(log, since=datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)) == ["line 9"]


async def test_timestamps_and_byte_limits(log: Path) -> None:
    assert (await read(log, timestamps=True, tail=1)) == ["2026-01-01T00:00:09.123456789Z line 9"]
    assert (await read(log, limit_bytes=9)) == ["line 0", "li"]


async def test_parts_of_a_long_line_are_joined(log: Path) -> None:
    refill(log, "2026-01-01T00:00:00Z stdout P ab\n2026-01-01T00:00:00Z stdout F cd\n")
    assert await read(log) == ["abcd"]


async def test_a_rotated_log_is_read_from_its_older_file_on(log: Path) -> None:
    rotate(log, "2026-01-01T00:01:00Z stdout F new\n")
    assert (await read(log))[-2:] == ["line 9", "new"]


def refill(log: Path, text: str) -> None:
    log.write_text(text)


def rotate(log: Path, text: str) -> None:
    log.rename(log.with_name("0.log.1"))
    log.write_text(text)


def test_a_volume_changes_in_one_step_and_drops_what_is_gone(tmp_path: Path) -> None:
    first, second = Content(), Content()
    first.add("a", b"1", 0o644)
    first.add("deep/b", b"2", 0o400)
    second.add("a", b"3", 0o644)
    assert write_content(tmp_path, first, None)
    assert not write_content(tmp_path, first, None)
    assert (tmp_path / "deep" / "b").read_text() == "2"
    assert (tmp_path / "deep" / "b").stat().st_mode & 0o777 == 0o400
    held = (tmp_path / "a").open()
    assert write_content(tmp_path, second, None)
    assert held.read() == "1"
    assert (tmp_path / "a").read_text() == "3"
    assert not (tmp_path / "deep").exists()
    assert len(list(tmp_path.glob("..[0-9]*"))) == 1


def test_frames_are_cut_from_any_pieces() -> None:
    sent = control_frame(SYN_STREAM, 0, struct.pack(">II", 1, 0)) + data_frame(1, b"hello", FIN)
    reader = FrameReader()
    frames = [frame for at in range(len(sent)) for frame in reader.feed(sent[at : at + 1])]
    assert [(frame.kind, frame.stream, frame.payload) for frame in frames][1] == (None, 1, b"hello")
    assert frames[0].kind == SYN_STREAM
    assert frames[1].flags == FIN


def test_header_blocks_use_the_protocols_dictionary() -> None:
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2
    pairs = [("streamtype", "data"), ("port", "80")]
    words = b"".join(struct.pack(">I", len(word)) + word.encode() for pair in pairs for word in pair)
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(struct.pack(">I", len(pairs)) + words) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert HeaderCodec().decode(block) == dict(pairs)

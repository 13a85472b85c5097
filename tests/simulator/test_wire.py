"""Bytes to requests: any cut of the bytes gives the same requests, and malformed ones are refused."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.wire import Request, RequestParser, WireError

FIXED = b"POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
BARE = b"GET /b HTTP/1.1\r\nHost: h\r\nconnection: close\r\n\r\n"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    b"10;note=1\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\n\r\n"
)


def parse(pieces: list[bytes]) -> list[Request]:
    parser, requests = RequestParser(), []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next_request()) is not None:
            requests.append(request)
    return requests


@given(st.lists(st.sampled_from([FIXED, BARE, CHUNKED]), max_size=4), st.lists(st.integers(0, 500), max_size=12))
def test_any_cut_of_the_bytes_gives_the_same_requests(messages, cuts):
    whole = b"".join(messages)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    assert parse(pieces) == [request for message in messages for request in parse([message])]


def test_bodies_and_paths_are_read():
    first, second, third = parse([FIXED + BARE + CHUNKED])
    assert (first.path, first.body, first.keep_alive) == ("/a", b"hello", True)
    assert (second.method, second.body, second.keep_alive) == ("GET", b"", False)
    assert third.body == b"abc0123456789abcdef"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx-request-id: a\nset-cookie: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"GET / HTTP/1.1\r\nlong: " + b"x" * 70_000, 431),
    ],
)
def test_malformed_requests_are_refused(head, status):
    with pytest.raises(WireError) as refused:
        parse([head])
    assert refused.value.status == status


@given(st.binary(max_size=300))
def test_random_bytes_never_break_the_parser(data):
    with suppress(WireError):
        assert isinstance(parse([data]), list)


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    reply = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return reply


async def test_pipelined_requests_are_answered_in_order(shared_engine):
    requests = (
        b"GET /version HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\nGET /ready HTTP/1.1\r\nconnection: close\r\n\r\n"
    )
    reply = await exchange(shared_engine.port, requests)
    assert reply.index(b'{"version"') < reply.index(b"Not Found") < reply.index(b'{"status":"ready"}')


async def test_a_client_that_waits_for_100_continue_gets_it(shared_engine):
    reader, writer = await asyncio.open_connection("127.0.0.1", shared_engine.port)
    body = b'{"model":"llama2-7b","prompt":"x","max_tokens":1}'
    head = b"POST /v1/completions HTTP/1.1\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body))
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 100")
    writer.write(body)
    assert b"HTTP/1.1 200 OK" in await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_an_old_client_gets_a_stream_without_chunks(shared_engine):
    body = b'{"model":"llama2-7b","prompt":"x","max_tokens":2,"stream":true}'
    head = b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
    reply = await exchange(shared_engine.port, head + body)
    assert reply.endswith(b"data: [DONE]\n\n")
    assert b"transfer-encoding" not in reply


async def test_a_malformed_request_is_refused_and_the_server_lives_on(shared_engine):
    assert b" 400 " in (await exchange(shared_engine.port, b"NONSENSE\r\n\r\n")).split(b"\r\n")[0]
    assert (await shared_engine.get("/health"))[0] == 200


async def test_an_answer_to_head_has_no_body(shared_engine):
    reader, writer = await asyncio.open_connection("127.0.0.1", shared_engine.port)
    writer.write(
        b"HEAD /v1/models HTTP/1.1\r\nhost: h\r\n\r\nGET /version HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    )
    first, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 405")
    assert rest.startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_slow_reader_gets_every_event_in_order(start_engine, instant):
    """More is sent than the sockets hold, so that the engine has to wait for the reader in the middle."""
    engine = await start_engine("--latency-model", "constant", "--itl-seconds", "0.00002", **instant)
    tokens, choices = 12_000, 4
    body = b'{"model":"llama2-7b","prompt":"x","max_tokens":%d,"n":%d,"stream":true,"seed":1}' % (tokens, choices)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", engine.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
    writer.write(head + body)
    await asyncio.sleep(1)
    text = (await reader.read()).decode()
    writer.close()
    plain = await engine.complete("x", max_tokens=tokens, n=choices, seed=1)
    for choice in plain["choices"]:
        pieces = re.findall(rf'"index":{choice["index"]},"text":"([^"]*)"', text)
        assert len(pieces) == tokens
        assert "".join(pieces) == choice["text"]

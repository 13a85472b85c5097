"""Cluster DNS for the node's pods, on the bridge's address: names of the cluster from the API server's objects, every
other name from the machine's own resolvers.

    pod ──► bridge:53 ──► cluster.local? ──► Zone ──► answer
                              └────────────► the machine's resolvers, or REFUSED when it has none
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from local.node.api import ApiClient, ApiError, WatchExpiredError
from local.node.dns_zone import DOMAIN, Found, Zone
from local.node.files import Json

log = logging.getLogger(__name__)

PORT: Final = 53
TTL_SECONDS: Final = 2
UPSTREAM_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 2.0
CONNECTION_SECONDS: Final = 10.0
PLAIN_BYTES: Final = 512
MOST_QUESTIONS: Final = 256
MACHINE_RESOLVERS: Final = Path("/etc/resolv.conf")
_DOMAIN: Final = dns.name.from_text(f"{DOMAIN}.")
_WATCHED: Final = {"services": "/api/v1/services", "slices": "/apis/discovery.k8s.io/v1/endpointslices"}


def nameservers(path: Path = MACHINE_RESOLVERS) -> list[str]:
    """IPv4 addresses of the machine's resolvers."""
    lines = path.read_text().splitlines() if path.exists() else []
    words = [line.split() for line in lines]
    return [found[1] for found in words if len(found) > 1 and found[0] == "nameserver" and ":" not in found[1]]


class ClusterDns:
    """Answers on `address`; `run` keeps what it knows up to date until cancelled."""

    def __init__(self, api: ApiClient, address: str, upstreams: Sequence[str], port: int = PORT) -> None:
        self.zone = Zone()
        self.address = address
        self._api = api
        self._port = port
        self._upstreams = [each for each in upstreams if each != address]
        self._unsynced = set(_WATCHED)
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._busy = asyncio.Semaphore(MOST_QUESTIONS)

    async def start(self) -> bool:
        """Listen; False, with a line in the log, where somebody else has the port."""
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self._answer_datagram), local_addr=(self.address, self._port)
            )
            self._server = await asyncio.start_server(self._converse, self.address, self._port)
        except OSError as error:
            log.warning("cluster_dns_off address=%s:%d error=%s", self.address, self._port, error)
            await self.close()
            return False
        return True

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        self._transport = self._server = None

    # --- what it knows ---

    async def run(self) -> None:
        """Watches Services and EndpointSlices until cancelled."""
        zone = self.zone
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow("services", zone.replace_services, zone.put_service))
            tasks.create_task(self._follow("slices", zone.replace_slices, zone.put_slice))

    async def _follow(self, what: str, replace: Callable[[Iterable[Json]], None], put: Callable[..., None]) -> None:
        path = _WATCHED[what]
        while True:
            try:
                listed = await self._api.get(path)
                replace(listed["items"])
                self._unsynced.discard(what)
                version = listed["metadata"]["resourceVersion"]
                while True:
                    async for event in self._api.watch(path, version):
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            put(event["object"], deleted=event["type"] == "DELETED")
            except WatchExpiredError:
                log.info("cluster_dns_relist what=%s", what)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("cluster_dns_watch_broken what=%s error=%r", what, error)
                await asyncio.sleep(RETRY_SECONDS)

    # --- questions ---

    async def _answer_datagram(self, raw: bytes, send: Callable[[bytes], None]) -> None:
        async with self._busy:
            answer = await self.answer(raw, stream=False)
        if answer:
            send(answer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """TCP: questions with their length in front, until the client is done."""
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, OSError):
            while True:
                async with asyncio.timeout(CONNECTION_SECONDS):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    answer = await self.answer(await reader.readexactly(size), stream=True)
                    if not answer:
                        break
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        writer.close()

    async def answer(self, raw: bytes, *, stream: bool) -> bytes:
        """The answer to a question in wire form; empty for what is no question."""
        try:
            query = dns.message.from_wire(raw)
        except (dns.exception.DNSException, ValueError):
            return b""
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return b""
        if not query.question[0].name.is_subdomain(_DOMAIN):
            return await self._forward(raw, query, stream=stream)
        response = self._ours(query)
        if response.answer and response.answer[0].rdtype == dns.rdatatype.CNAME:
            await self._chase(response, query)
        return _encoded(response, query, stream=stream)

    async def _chase(self, response: dns.message.Message, query: dns.message.Message) -> None:
        """Add what an external name stands for: the resolver of a pod does not ask twice."""
        asked = dns.message.make_query(response.answer[0][0].target, query.question[0].rdtype)
        with contextlib.suppress(dns.exception.DNSException):
            found = dns.message.from_wire(await self._forward(asked.to_wire(), asked, stream=False))
            response.answer.extend(found.answer)

    def _ours(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        asked = query.question[0]
        if self._unsynced:
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        labels = asked.name.relativize(_DOMAIN).labels
        found = self.zone.find(tuple(label.decode("ascii", "replace").lower() for label in labels))
        if found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            _fill(response, asked, found)
        if not response.answer:
            soa = f"ns.{DOMAIN}. hostmaster.{DOMAIN}. 1 7200 1800 86400 {TTL_SECONDS}"
            response.authority.append(dns.rrset.from_text(_DOMAIN, TTL_SECONDS, "IN", "SOA", soa))
        return response

    async def _forward(self, raw: bytes, query: dns.message.Message, *, stream: bool) -> bytes:
        for address in self._upstreams:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(UPSTREAM_SECONDS):
                    return await (_ask_stream if stream else _ask_datagram)(address, raw)
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.SERVFAIL if self._upstreams else dns.rcode.REFUSED)
        return _encoded(response, query, stream=stream)


def _fill(response: dns.message.Message, asked: dns.rrset.RRset, found: Found) -> None:
    everything = asked.rdtype == dns.rdatatype.ANY
    if found.alias:
        response.answer.append(dns.rrset.from_text(asked.name, TTL_SECONDS, "IN", "CNAME", f"{found.alias}."))
    elif found.addresses and (everything or asked.rdtype == dns.rdatatype.A):
        response.answer.append(dns.rrset.from_text(asked.name, TTL_SECONDS, "IN", "A", *found.addresses))
    elif found.targets and (everything or asked.rdtype == dns.rdatatype.SRV):
        texts = [f"0 {100 // len(found.targets)} {port} {host}." for port, host in found.targets]
        response.answer.append(dns.rrset.from_text(asked.name, TTL_SECONDS, "IN", "SRV", *texts))


def _encoded(response: dns.message.Message, query: dns.message.Message, *, stream: bool) -> bytes:
    """In wire form; what does not fit into a datagram says so and is asked for again by TCP."""
    limit = 65535 if stream else max(PLAIN_BYTES, query.payload)
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        short = dns.message.make_response(query)
        short.flags |= dns.flags.TC
        return short.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    """Hands each datagram to `answer` in a task of its own."""

    def __init__(self, answer: Callable[[bytes, Callable[[bytes], None]], Coroutine[Any, Any, None]]) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        transport = self._transport
        task = asyncio.create_task(self._answer(data, lambda answer: transport.sendto(answer, addr)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _OneDatagram(asyncio.DatagramProtocol):
    """The first datagram that comes back."""

    def __init__(self, identity: bytes) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._identity = identity

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002
        if data[:2] == self._identity and not self.received.done():
            self.received.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.received.done():
            self.received.set_exception(exc)


async def _ask_datagram(address: str, raw: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _OneDatagram(raw[:2]), remote_addr=(address, PORT)
    )
    try:
        transport.sendto(raw)
        return await protocol.received
    finally:
        transport.close()


async def _ask_stream(address: str, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address, PORT)
    try:
        writer.write(struct.pack("!H", len(raw)) + raw)
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(size)
    finally:
        writer.close()

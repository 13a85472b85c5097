"""Names of the cluster inside pods: Services, hosts behind them, and everything else as on the machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import uvloop

from local.node import cluster_dns
from local.node.api import ApiClient
from local.node.cluster_dns import ClusterDns
from local.node.dns_zone import Zone
from local.node.resolver_file import resolver_of
from planning.render_groups import render_group_pod
from tests.node.rig import Json, Pods, container, is_running
from tests.workflows.rig import free_port

# What a Service and its endpoints are called.


def service(name: str = "web", **spec: object) -> Json:
    return {"metadata": {"namespace": "shop", "name": name}, "spec": {"clusterIP": "None", **spec}}


def endpoints(*found: Json, name: str = "web-1", of: str = "web", ports: tuple[Json, ...] = ()) -> Json:
    labels = {"kubernetes.io/service-name": of}
    metadata = {"namespace": "shop", "name": name, "labels": labels}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": list(found), "ports": list(ports)}


def endpoint(address: str, host: str | None = None, ready: bool | None = True) -> Json:
    found: Json = {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
    return found | ({"hostname": host} if host else {})


def zone() -> Zone:
    found = Zone()
    found.replace_services([service(), service("empty"), service("far", type="ExternalName", externalName="x.example")])
    found.replace_slices([
        endpoints(endpoint("10.0.0.10", "Rank-0"), endpoint("10.0.0.9"), endpoint("10.0.0.8", "rank-2", ready=False),
                  ports=({"name": "http", "port": 8000},)),
        endpoints(endpoint("10.0.0.9"), endpoint("10.0.0.2", ready=None), name="web-2"),
    ])  # fmt: skip
    return found


def addresses(name: str) -> list[str] | None:
    found = zone().find(tuple(name.split(".")))
    return None if found is None else list(found.addresses)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("web.shop.svc", ["10.0.0.2", "10.0.0.9", "10.0.0.10"]),
        ("rank-0.web.shop.svc", ["10.0.0.10"]),
        ("10-0-0-9.web.shop.svc", ["10.0.0.9"]),
        ("rank-2.web.shop.svc", None),
        ("empty.shop.svc", []),
        ("missing.shop.svc", None),
        ("web.other.svc", None),
        ("shop.svc", []),
        ("other.svc", None),
        ("svc", []),
        ("web.shop.pod", None),
    ],
)
def test_a_name_has_the_addresses_of_what_is_ready_behind_it(name, wanted):
    assert addresses(name) == wanted


def test_a_named_port_is_found_by_srv():
    found = zone().find(("_http", "_tcp", "web", "shop", "svc"))
    assert found is not None
    assert list(found.targets) == [
        (8000, "10-0-0-9.web.shop.svc.cluster.local"), (8000, "rank-0.web.shop.svc.cluster.local"),
    ]  # fmt: skip
    assert zone().find(("_grpc", "_tcp", "web", "shop", "svc")) is None


def test_what_goes_away_is_no_longer_found():
    found = zone()
    found.put_slice(endpoints(), deleted=True)
    assert list(found.find(("web", "shop", "svc")).addresses) == ["10.0.0.2", "10.0.0.9"]
    found.put_service(service(), deleted=True)
    assert found.find(("web", "shop", "svc")) is None


# What a pod's resolver is told.

MACHINE = "# theirs\nnameserver 192.0.2.1\nsearch example.com\noptions timeout:1\n"


def resolver(**spec: object) -> str:
    pod = {"metadata": {"namespace": "shop"}, "spec": spec}
    return resolver_of(pod, "10.86.0.1", MACHINE).text


CLUSTER = (
    "nameserver 10.86.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.com\noptions ndots:5\n"
)
OWN = "nameserver 192.0.2.1\nsearch example.com\noptions timeout:1\n"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, CLUSTER),
        ({"dnsPolicy": "ClusterFirst"}, CLUSTER),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, OWN),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER),
        ({"dnsPolicy": "Default"}, OWN),
        ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.7"]}}, "nameserver 192.0.2.7\n"),
        (
            {
                "dnsPolicy": "Default",
                "dnsConfig": {"searches": ["a.b"], "options": [{"name": "timeout", "value": "3"}]},
            },
            "nameserver 192.0.2.1\nsearch example.com a.b\noptions timeout:3\n",
        ),
    ],
)
def test_the_policy_of_a_pod_says_whom_it_asks(spec, wanted):
    assert resolver(**spec) == wanted


def test_without_cluster_dns_a_pod_asks_as_the_machine_does():
    pod = {"metadata": {"namespace": "shop"}, "spec": {}}
    assert resolver_of(pod, None, MACHINE).text == OWN


# Questions over the wire.


class Asked:
    """A server on a loopback port, asked as resolvers ask."""

    def __init__(self, served: ClusterDns) -> None:
        self.served = served
        served.zone = zone()
        served._unsynced.clear()

    async def ask(self, name: str, kind: str = "A", *, stream: bool = False) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        return dns.message.from_wire(await self.served.answer(query.to_wire(), stream=stream))


def asked(api: ApiClient | None = None, upstreams: tuple[str, ...] = ()) -> Asked:
    return Asked(ClusterDns(api, "127.0.0.1", upstreams))  # type: ignore[arg-type]


async def test_a_name_that_exists_without_such_records_is_no_error_and_one_that_does_not_is() -> None:
    at = asked()
    answer = await at.ask("WEB.shop.svc.cluster.local")
    assert sorted(str(each) for each in answer.answer[0]) == ["10.0.0.10", "10.0.0.2", "10.0.0.9"]
    assert answer.flags & dns.flags.AA
    none = await at.ask("web.shop.svc.cluster.local", "AAAA")
    assert (none.rcode(), none.answer) == (dns.rcode.NOERROR, [])
    missing = await at.ask("missing.shop.svc.cluster.local")
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert missing.authority[0].rdtype == dns.rdatatype.SOA


async def test_before_the_first_list_nobody_is_told_that_a_name_does_not_exist() -> None:
    at = asked()
    at.served._unsynced.add("slices")
    assert (await at.ask("web.shop.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL


async def test_an_answer_that_is_too_long_for_a_datagram_comes_by_stream() -> None:
    at = asked()
    many = [endpoint(f"10.1.{index // 250}.{index % 250}") for index in range(400)]
    at.served.zone.replace_slices([endpoints(*many)])
    short = await at.ask("web.shop.svc.cluster.local")
    assert short.flags & dns.flags.TC
    whole = await at.ask("web.shop.svc.cluster.local", stream=True)
    assert len(whole.answer[0]) == 400


async def test_other_names_are_refused_where_the_machine_has_no_resolver() -> None:
    assert (await asked().ask("example.com")).rcode() == dns.rcode.REFUSED


@contextmanager
def machines_resolver() -> Iterator[int]:
    """Answers every name with 192.0.2.33, as the machine's resolver would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)

        def serve() -> None:
            while True:
                try:
                    raw, client = server.recvfrom(4096)
                except OSError:
                    return
                response = dns.message.make_response(dns.message.from_wire(raw))
                asked_for = response.question[0]
                response.answer.append(dns.rrset.from_text(asked_for.name, 60, "IN", "A", "192.0.2.33"))
                server.sendto(response.to_wire(), client)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


async def test_other_names_are_the_machines_and_an_external_name_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with machines_resolver() as port:
        monkeypatch.setattr(cluster_dns, "PORT", port)
        at = asked()
        at.served._upstreams = ["127.0.0.1"]
        answer = await at.ask("example.com")
        assert [str(each) for each in answer.answer[0]] == ["192.0.2.33"]
        alias = await at.ask("far.shop.svc.cluster.local")
        assert [str(each[0]) for each in alias.answer] == ["x.example.", "192.0.2.33"]


async def test_a_resolver_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_dns, "UPSTREAM_SECONDS", 0.2)
    at = asked(upstreams=("127.0.0.77",))
    assert (await at.ask("example.com")).rcode() == dns.rcode.SERVFAIL


async def test_what_is_no_question_gets_no_answer() -> None:
    at = asked()
    assert await at.served.answer(b"\x00\x01", stream=False) == b""
    response = dns.message.make_response(dns.message.make_query("a.b", "A"))
    assert await at.served.answer(response.to_wire(), stream=False) == b""


def test_the_nodes_own_event_loop_serves_datagrams_and_streams():
    async def ask_both() -> list[int]:
        served = ClusterDns(None, "127.0.0.1", (), port=free_port())  # type: ignore[arg-type]
        at = Asked(served)
        assert await served.start()
        query = dns.message.make_query("web.shop.svc.cluster.local", "A")
        try:
            found = [
                await asyncio.to_thread(ask, query, "127.0.0.1", 5, at.served._port)
                for ask in (dns.query.udp, dns.query.tcp)
            ]
        finally:
            await served.close()
        return [len(each.answer[0]) for each in found]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask_both()) == [3, 3]


async def test_where_the_port_is_taken_pods_ask_the_machines_resolvers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        served = ClusterDns(None, "127.0.0.1", (), port=other.getsockname()[1])  # type: ignore[arg-type]
        assert not await served.start()


# In pods.


async def headless(pods: Pods, name: str, selector: dict[str, str]) -> None:
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    await pods.api.post(f"{pods.path}/services", {"metadata": {"name": name}, "spec": spec})


async def test_a_rank_finds_the_first_one_by_name_before_either_is_ready(pods: Pods) -> None:
    await headless(pods, "storm", {"storm-service-name": "storm"})
    leader = f"${{PODSET_NAME}}-0.storm.{pods.namespace}.svc.cluster.local"
    script = f"until getent hosts {leader}; do sleep 0.2; done; sleep 600"
    ready = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    engine = {"name": "main", "image": "busybox:1.36", "command": ["sh", "-c", script], "readinessProbe": ready}
    podset = {
        "metadata": {"name": "ranks", "namespace": pods.namespace, "labels": {"storm-service-name": "storm"},
                     "uid": "x"},
        "spec": {"podGroupSize": 2,
                 "template": {"spec": {"terminationGracePeriodSeconds": 1, "containers": [engine]}}},
    }  # fmt: skip
    for index in range(2):
        rank = render_group_pod(podset, index)
        rank["metadata"].pop("ownerReferences")
        await pods.create(rank)
    first = await pods.until("ranks-0", is_running)
    await pods.until("ranks-1", is_running)
    for name in ("ranks-0", "ranks-1"):
        await pods.text(name, first["status"]["podIP"])
    assert not container(await pods.get("ranks-0")).get("ready")


async def test_a_service_is_found_by_its_short_name(pods: Pods) -> None:
    await headless(pods, "peer", {"app": "peer"})
    await pods.create({
        "metadata": {"name": "peer", "labels": {"app": "peer"}},
        "spec": {"containers": [{"name": "main", "image": "busybox:1.36", "command": ["sleep", "600"]}]},
    })  # fmt: skip
    peer = await pods.until("peer", is_running)
    lookup = "cat /etc/resolv.conf; until getent hosts peer; do sleep 0.2; done; getent hosts no.such || echo none"
    await pods.run("asker", "sh", "-c", f"{lookup}; sleep 600")
    log = await pods.text("asker", "none")
    assert peer["status"]["podIP"] in log
    assert f"search {pods.namespace}.svc.cluster.local svc.cluster.local cluster.local" in log

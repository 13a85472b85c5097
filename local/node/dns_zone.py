"""What cluster DNS knows: Services and their endpoints, and the records that follow from them.

    <service>.<namespace>.svc.cluster.local             addresses of its pods: nothing routes cluster addresses here
    <host>.<service>.<namespace>.svc.cluster.local      one pod, by `hostname` and `subdomain`, else by dashed address
    _<port>._<protocol>.<service>.<namespace>.svc…      SRV

As in the DNS specification of Kubernetes (version 1.1.0), but for the addresses of Services that are not headless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from local.node.files import Json

DOMAIN: Final = "cluster.local"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod behind a Service, as its EndpointSlice tells."""

    address: str
    host: str
    ports: Sequence[Port]


@dataclass(frozen=True, slots=True)
class Found:
    """Records of one name. `alias` is what an ExternalName Service stands for."""

    addresses: Sequence[str] = ()
    alias: str = ""
    targets: Sequence[tuple[int, str]] = ()  # SRV: port and full name


@dataclass
class Zone:
    """Objects as last seen; `synced` once both lists are complete."""

    services: dict[tuple[str, str], Json] = field(default_factory=dict)
    slices: dict[tuple[str, str], dict[str, Json]] = field(default_factory=dict)

    # --- what the watches bring ---

    def replace_services(self, objects: Iterable[Json]) -> None:
        self.services = {_key(each): each for each in objects}

    def put_service(self, service: Json, *, deleted: bool) -> None:
        if deleted:
            self.services.pop(_key(service), None)
        else:
            self.services[_key(service)] = service

    def replace_slices(self, objects: Iterable[Json]) -> None:
        self.slices = {}
        for each in objects:
            self.put_slice(each, deleted=False)

    def put_slice(self, found: Json, *, deleted: bool) -> None:
        metadata = found["metadata"]
        service = (metadata["namespace"], (metadata.get("labels") or {}).get(SERVICE_LABEL, ""))
        if deleted:
            self.slices.get(service, {}).pop(metadata["name"], None)
        else:
            self.slices.setdefault(service, {})[metadata["name"]] = found

    # --- what is asked ---

    def find(self, name: Name) -> Found | None:
        """Records of a name, given without `cluster.local`; None when there is no such name."""
        match name:
            case () | ("svc",):
                return Found()
            case (namespace, "svc"):
                return Found() if any(space == namespace for space, _ in self.services) else None
            case (service, namespace, "svc"):
                return self._of_service(namespace, service)
            case (host, service, namespace, "svc"):
                return self._of_host(namespace, service, host)
            case (port, protocol, service, namespace, "svc") if port.startswith("_") and protocol.startswith("_"):
                return self._of_port(namespace, service, port[1:], protocol[1:])
        return None

    def _of_service(self, namespace: str, name: str) -> Found | None:
        service = self.services.get((namespace, name))
        if service is None:
            return None
        if service["spec"].get("type") == "ExternalName":
            return Found(alias=service["spec"].get("externalName", ""))
        return Found(addresses=_unique(endpoint.address for endpoint in self._endpoints(namespace, name)))

    def _of_host(self, namespace: str, service: str, host: str) -> Found | None:
        if (namespace, service) not in self.services:
            return None
        addresses = _unique(each.address for each in self._endpoints(namespace, service) if each.host == host)
        return Found(addresses=addresses) if addresses else None

    def _of_port(self, namespace: str, service: str, port: str, protocol: str) -> Found | None:
        if (namespace, service) not in self.services:
            return None
        targets = [
            (known.number, f"{endpoint.host}.{service}.{namespace}.svc.{DOMAIN}")
            for endpoint in self._endpoints(namespace, service)
            for known in endpoint.ports
            if (known.name.lower(), known.protocol.lower()) == (port, protocol)
        ]
        return Found(targets=sorted(set(targets))) if targets else None

    def _endpoints(self, namespace: str, service: str) -> Iterator[Endpoint]:
        """Those that are ready; where a Service publishes others too, its slices call them ready."""
        for found in self.slices.get((namespace, service), {}).values():
            if found.get("addressType") != "IPv4":
                continue
            ports = [_port(each) for each in found.get("ports") or ()]
            for endpoint in found.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is False:
                    continue
                for address in endpoint.get("addresses") or ():
                    host = (endpoint.get("hostname") or address.replace(".", "-")).lower()
                    yield Endpoint(address, host, ports)


def _key(found: Json) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def _port(found: Json) -> Port:
    return Port(found.get("name") or "", found.get("protocol") or "TCP", int(found.get("port") or 0))


def _unique(addresses: Iterable[str]) -> list[str]:
    return sorted(set(addresses), key=lambda address: [int(part) for part in address.split(".")])

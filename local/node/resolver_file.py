"""A pod's resolv.conf, as a kubelet writes it for the pod's `dnsPolicy` and `dnsConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.node.dns_zone import DOMAIN
from local.node.files import Json

MACHINE_FILE = Path("/etc/resolv.conf")


@dataclass
class Resolver:
    """The three lists of a resolv.conf."""

    nameservers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        lines = [f"nameserver {address}" for address in _once(self.nameservers)]
        if self.searches:
            lines.append("search " + " ".join(_once(self.searches)))
        if self.options:
            words = [f"{name}:{value}" if value else name for name, value in self.options.items()]
            lines.append("options " + " ".join(words))
        return "\n".join(lines) + "\n"


def _once(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(words))


def parse(text: str) -> Resolver:
    """Reads a resolv.conf; the last `search` or `domain` counts."""
    found = Resolver()
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_]:
                found.nameservers.append(address)
            case ["search" | "domain", *names]:
                found.searches = names
            case ["options", *words]:
                found.options |= {name: value for name, _, value in (word.partition(":") for word in words)}
    return found


def resolver_of(pod: Json, cluster_dns: str | None, machine: str) -> Resolver:
    """`cluster_dns` is the address that answers cluster names, `machine` the machine's own file."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    own = parse(machine)
    if policy == "None":
        found = Resolver()
    elif cluster_dns is None or policy == "Default" or (policy == "ClusterFirst" and spec.get("hostNetwork")):
        found = own
    else:
        domains = [f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
        found = Resolver([cluster_dns], [*domains, *own.searches], {"ndots": "5"})
    extra = spec.get("dnsConfig") or {}
    found.nameservers += extra.get("nameservers") or ()
    found.searches += extra.get("searches") or ()
    found.options |= {one["name"]: one.get("value") or "" for one in extra.get("options") or ()}
    return found


def machine_text() -> str:
    return MACHINE_FILE.read_text() if MACHINE_FILE.exists() else ""

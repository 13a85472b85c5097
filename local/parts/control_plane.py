"""The Kubernetes control plane: etcd, API server, controller manager and scheduler, all out of one binary.

What differs from a cluster's usual flags, and why:
- etcd and the kubelet API have certificate authorities of their own (see `local.pki`);
- etcd does not wait for the disk: a power cut may lose the last seconds of this machine's system, and starts and
  rollouts are several times faster on slow disks;
- controller manager and scheduler run without leader election: there is one of each, and a lost lease during an outage
  of the API server would end them;
- request limits of the clients are raised, since everything shares one machine;
- audit is off, the aggregator routes to endpoints, and so the webhook and APIService objects of a real cluster work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from local.kubeconfig import write_certificate_kubeconfig
from local.pki import Pki, write_private
from local.settings import LocalSettings
from local.supervisor.part import HttpCheck, Part, fingerprint_of

NAMES = ("etcd", "api-server", "controller-manager", "scheduler")
CLIENT_REQUESTS_PER_SECOND = 500
CLIENT_BURST = 1000
ETCD_QUOTA_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class ControlPlaneFiles:
    """The binary and the certificates that the four parts run with."""

    binary: Path
    pki: Pki


def write_kubeconfigs(settings: LocalSettings, pki: Pki) -> None:
    """The kubeconfigs of the administrator, the node agent, the controller manager and the scheduler."""
    server = f"https://127.0.0.1:{settings.api_server_port}"
    write_certificate_kubeconfig(settings.kubeconfig, server, pki, "admin")
    write_certificate_kubeconfig(settings.node_kubeconfig, server, pki, "node-client")
    write_certificate_kubeconfig(_controller_manager_kubeconfig(settings), server, pki, "controller-manager-client")
    write_certificate_kubeconfig(_scheduler_kubeconfig(settings), server, pki, "scheduler-client")
    configuration = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": str(_scheduler_kubeconfig(settings)),
            "qps": CLIENT_REQUESTS_PER_SECOND,
            "burst": CLIENT_BURST,
        },
    }
    write_private(_scheduler_configuration(settings), json.dumps(configuration).encode())


def control_plane(settings: LocalSettings, files: ControlPlaneFiles) -> list[Part]:
    """The four parts, etcd first."""
    return [
        _etcd(settings, files),
        _api_server(settings, files),
        _controller_manager(settings, files),
        _scheduler(settings, files),
    ]


def _etcd(settings: LocalSettings, files: ControlPlaneFiles) -> Part:
    pki = files.pki
    client = f"https://127.0.0.1:{settings.etcd_port}"
    peer = f"https://127.0.0.1:{settings.etcd_peer_port}"
    flags = {
        "name": "local",
        "data-dir": settings.home / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"local={peer}",
        "cert-file": pki.certificate("etcd"),
        "key-file": pki.key("etcd"),
        "trusted-ca-file": pki.certificate("etcd-ca"),
        "client-cert-auth": "true",
        "peer-cert-file": pki.certificate("etcd"),
        "peer-key-file": pki.key("etcd"),
        "peer-trusted-ca-file": pki.certificate("etcd-ca"),
        "peer-client-cert-auth": "true",
        "quota-backend-bytes": ETCD_QUOTA_BYTES,
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    check = HttpCheck(
        f"{client}/health",
        str(pki.certificate("etcd-ca")),
        str(pki.certificate("etcd-client")),
        str(pki.key("etcd-client")),
    )
    return _part("etcd", "etcd", files, flags, check, client, [pki.certificate("etcd")], memory_mib=192)


def _api_server(settings: LocalSettings, files: ControlPlaneFiles) -> Part:
    pki = files.pki
    flags = {
        "etcd-servers": f"https://127.0.0.1:{settings.etcd_port}",
        "etcd-cafile": pki.certificate("etcd-ca"),
        "etcd-certfile": pki.certificate("etcd-client"),
        "etcd-keyfile": pki.key("etcd-client"),
        "bind-address": "0.0.0.0",  # noqa: S104 - pods reach the API server on the bridge's address
        "secure-port": settings.api_server_port,
        "advertise-address": settings.bridge_address,
        "service-cluster-ip-range": settings.service_cidr,
        "tls-cert-file": pki.certificate("api-server"),
        "tls-private-key-file": pki.key("api-server"),
        "client-ca-file": pki.certificate("ca"),
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "profiling": "false",
        **_service_account_flags(pki),
        **_kubelet_flags(pki),
        **_aggregation_flags(pki),
    }
    address = f"https://127.0.0.1:{settings.api_server_port}"
    check = HttpCheck(f"{address}/readyz", str(pki.certificate("ca")))
    files_of_it = [pki.certificate(name) for name in ("api-server", "etcd-client", "kubelet-client", "front-proxy")]
    return _part(
        "api-server",
        "kube-apiserver",
        files,
        flags,
        check,
        address,
        files_of_it,
        memory_mib=1024,
        growth=150,
        after=("etcd",),
    )


def _service_account_flags(pki: Pki) -> dict[str, object]:
    return {
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": pki.service_account_public_key,
        "service-account-signing-key-file": pki.service_account_key,
    }


def _kubelet_flags(pki: Pki) -> dict[str, object]:
    return {
        "kubelet-certificate-authority": pki.certificate("ca"),
        "kubelet-client-certificate": pki.certificate("kubelet-client"),
        "kubelet-client-key": pki.key("kubelet-client"),
        "kubelet-preferred-address-types": "InternalIP",
    }


def _aggregation_flags(pki: Pki) -> dict[str, object]:
    return {
        "enable-aggregator-routing": "true",
        "requestheader-client-ca-file": pki.certificate("front-proxy-ca"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki.certificate("front-proxy"),
        "proxy-client-key-file": pki.key("front-proxy"),
    }


def _controller_manager(settings: LocalSettings, files: ControlPlaneFiles) -> Part:
    pki, kubeconfig = files.pki, _controller_manager_kubeconfig(settings)
    flags = {
        **_serving_flags(pki, "controller-manager", settings.controller_manager_port, kubeconfig),
        "kubeconfig": kubeconfig,
        "leader-elect": "false",
        "kube-api-qps": CLIENT_REQUESTS_PER_SECOND,
        "kube-api-burst": CLIENT_BURST,
        "use-service-account-credentials": "true",
        "service-account-private-key-file": pki.service_account_key,
        "root-ca-file": pki.certificate("ca"),
        "cluster-signing-cert-file": pki.certificate("ca"),
        "cluster-signing-key-file": pki.key("ca"),
    }
    address = f"https://127.0.0.1:{settings.controller_manager_port}"
    check = HttpCheck(f"{address}/healthz", str(pki.certificate("ca")))
    return _part(
        "controller-manager",
        "kube-controller-manager",
        files,
        flags,
        check,
        address,
        [kubeconfig, pki.certificate("controller-manager")],
        memory_mib=192,
        after=("api-server",),
    )


def _scheduler(settings: LocalSettings, files: ControlPlaneFiles) -> Part:
    pki, kubeconfig = files.pki, _scheduler_kubeconfig(settings)
    flags = {
        **_serving_flags(pki, "scheduler", settings.scheduler_port, kubeconfig),
        "config": _scheduler_configuration(settings),
    }
    address = f"https://127.0.0.1:{settings.scheduler_port}"
    check = HttpCheck(f"{address}/readyz", str(pki.certificate("ca")))
    watched = [kubeconfig, pki.certificate("scheduler"), _scheduler_configuration(settings)]
    return _part(
        "scheduler", "kube-scheduler", files, flags, check, address, watched, memory_mib=160, after=("api-server",)
    )


def _serving_flags(pki: Pki, name: str, port: int, kubeconfig: Path) -> dict[str, object]:
    return {
        "bind-address": "127.0.0.1",
        "secure-port": port,
        "tls-cert-file": pki.certificate(name),
        "tls-private-key-file": pki.key(name),
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "profiling": "false",
    }


def _controller_manager_kubeconfig(settings: LocalSettings) -> Path:
    return settings.pki / "controller-manager.kubeconfig"


def _scheduler_kubeconfig(settings: LocalSettings) -> Path:
    return settings.pki / "scheduler.kubeconfig"


def _scheduler_configuration(settings: LocalSettings) -> Path:
    return settings.home / "scheduler.json"


def _part(
    name: str,
    component: str,
    files: ControlPlaneFiles,
    flags: dict[str, object],
    check: HttpCheck,
    address: str,
    watched: list[Path],
    *,
    memory_mib: int,
    growth: int = 75,
    after: tuple[str, ...] = (),
) -> Part:
    """`growth`: percent by which Go lets the heap grow before it collects; the memory limit is soft: beyond it Go
    collects more often and does not fail, which took 37 % of the API server's CPU in a burst while the limit was low.
    """
    environment = {"GOMEMLIMIT": f"{memory_mib}MiB", "GOGC": str(growth)}
    command = (str(files.binary), component, *(f"--{flag}={value}" for flag, value in flags.items()))
    return Part(
        name=name,
        command=command,
        environment=environment,
        check=check,
        address=address,
        after=after,
        fingerprint=fingerprint_of(command, environment, watched),
    )

"""Settings of the node agent, read from the environment once.

| variable | meaning | default |
|---|---|---|
| KUBECONFIG | how the agent reaches the API server | `<home>/kubeconfig` |
| BRIXFLOW_HOME | state; the agent keeps to `<home>/node` | `<checkout>/.brixflow` |
| BRIXFLOW_NODE_NAME | name of the Node object | brixflow-local |
| BRIXFLOW_NODE_PORT | kubelet API, https | 10250 |
| BRIXFLOW_POD_CIDR | range of pod addresses; the first one is the bridge's | 10.86.0.0/16 |
| BRIXFLOW_BRIDGE | name of the bridge | brix0 |
| BRIXFLOW_API_SERVER_PORT | what pods get as KUBERNETES_SERVICE_PORT | 16443 |
| BRIXFLOW_NODE_CERT, BRIXFLOW_NODE_KEY | serving certificate of the kubelet API | `<home>/pki/node.crt`, `.key` |
| BRIXFLOW_CLIENT_CA | authority of the clients that may use it | `<home>/pki/ca.crt` |
| BRIXFLOW_NODE_GPUS | capacity nvidia.com/gpu | 8 |
| BRIXFLOW_NODE_CPUS, BRIXFLOW_NODE_MEMORY, BRIXFLOW_NODE_PODS | further capacity | 512, 4Ti, 1000 |
| BRIXFLOW_NODE_LABELS | more labels, `key=value,key=value` | |
| BRIXFLOW_IMAGES | image table | `<checkout>/local/images.yaml` |
| BRIXFLOW_NODE_BACKOFF_SECONDS | first crash back-off, doubling to five minutes | 10 |
| BRIXFLOW_NODE_VOLUME_REFRESH_SECONDS | how often mounted ConfigMaps, Secrets and tokens are looked at | 50 |
| BRIXFLOW_NODE_ROOT_TMPFS_MIB | bound of a container's root where overlay must use memory | 512 |
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

DEFAULT_POD_RANGE = IPv4Network("10.86.0.0/16")
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class NodeSettings:
    """Everything a user may set; see the table above."""

    home: Path
    kubeconfig: Path
    node_cert: Path
    node_key: Path
    client_ca: Path
    name: str = "brixflow-local"
    port: int = 10250
    pod_range: IPv4Network = DEFAULT_POD_RANGE
    bridge: str = "brix0"
    api_server_port: int = 16443
    gpus: int = 8
    cpus: int = 512
    memory: str = "4Ti"
    pods: int = 1000
    labels: dict[str, str] = field(default_factory=dict)
    images: Path = CHECKOUT / "local" / "images.yaml"
    backoff_seconds: float = 10.0
    volume_refresh_seconds: float = 50.0
    root_tmpfs_mib: int = 512

    @property
    def directory(self) -> Path:
        """Where the agent keeps its state."""
        return self.home / "node"

    @property
    def bridge_address(self) -> IPv4Address:
        """The node's address, as pods see it."""
        return self.pod_range.network_address + 1

    @classmethod
    def from_environment(cls) -> NodeSettings:
        """Reads the variables of the table."""
        get = os.environ.get
        home = Path(get("BRIXFLOW_HOME") or CHECKOUT / ".brixflow").absolute()
        pki = home / "pki"
        return cls(
            home=home,
            kubeconfig=Path(get("KUBECONFIG") or home / "kubeconfig"),
            node_cert=Path(get("BRIXFLOW_NODE_CERT") or pki / "node.crt"),
            node_key=Path(get("BRIXFLOW_NODE_KEY") or pki / "node.key"),
            client_ca=Path(get("BRIXFLOW_CLIENT_CA") or pki / "ca.crt"),
            name=get("BRIXFLOW_NODE_NAME") or cls.name,
            port=int(get("BRIXFLOW_NODE_PORT") or cls.port),
            pod_range=IPv4Network(get("BRIXFLOW_POD_CIDR") or cls.pod_range),
            bridge=get("BRIXFLOW_BRIDGE") or cls.bridge,
            api_server_port=int(get("BRIXFLOW_API_SERVER_PORT") or cls.api_server_port),
            gpus=int(get("BRIXFLOW_NODE_GPUS") or cls.gpus),
            cpus=int(get("BRIXFLOW_NODE_CPUS") or cls.cpus),
            memory=get("BRIXFLOW_NODE_MEMORY") or cls.memory,
            pods=int(get("BRIXFLOW_NODE_PODS") or cls.pods),
            labels=_pairs(get("BRIXFLOW_NODE_LABELS") or ""),
            images=Path(get("BRIXFLOW_IMAGES") or cls.images),
            backoff_seconds=float(get("BRIXFLOW_NODE_BACKOFF_SECONDS") or cls.backoff_seconds),
            volume_refresh_seconds=float(get("BRIXFLOW_NODE_VOLUME_REFRESH_SECONDS") or cls.volume_refresh_seconds),
            root_tmpfs_mib=int(get("BRIXFLOW_NODE_ROOT_TMPFS_MIB") or cls.root_tmpfs_mib),
        )


def _pairs(text: str) -> dict[str, str]:
    parts = (part.split("=", 1) for part in text.split(",") if "=" in part)
    return {key.strip(): value.strip() for key, value in parts}

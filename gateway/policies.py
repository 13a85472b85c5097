"""The EnvoyPatchPolicy for Envoy Gateway, made from the one Envoy configuration, so that neither can drift.

    python -m gateway.policies            writes deploy/gateway/patches.yaml and deploy/gateway-module/patches.yaml
    python -m gateway.policies --check    fails when they differ from what would be written

What Envoy Gateway makes by itself (listener, connection manager, ext_proc's cluster) is changed where ours differs.
With host `grpc` the filter is that of the EnvoyExtensionPolicy; the key in the route turns it on. With host `module`
it is part of the patch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from gateway.envoy import WIDTH, EnvoyValues, render
from gateway.settings import Host

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
FILES = {Host.GRPC: DEPLOY / "gateway" / "patches.yaml", Host.MODULE: DEPLOY / "gateway-module" / "patches.yaml"}
NAMESPACE, GATEWAY = "aibrix-system", "aibrix-eg"
LISTENER = f"{NAMESPACE}/{GATEWAY}/http"
CLUSTER = "original_destination_cluster"
EXT_PROC = (
    f"envoy.filters.http.ext_proc/envoyextensionpolicy/{NAMESPACE}/aibrix-gateway-plugins-extension-policy/extproc/0"
)
MANAGER = "/default_filter_chain/filters/0/typed_config"
MANAGER_FIELDS = (
    "preserve_external_request_id",
    "early_header_mutation_extensions",
    "stream_idle_timeout",
    "delayed_close_timeout",
    "local_reply_config",
)
Document = dict[str, Any]


class _Plain(yaml.SafeDumper):
    """Writes repeated values out: patches are read one by one."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def configuration(host: Host) -> Document:
    """The whole local configuration, with a cluster's path of the segment."""
    values = EnvoyValues(
        listen_port=80, admin_port=19000, http="127.0.0.1:8080", access_log=Path("/dev/stdout"), host=host
    )
    read: Document = yaml.safe_load(render(values))
    return read


def manager_of(config: Document) -> Document:
    """The HTTP connection manager."""
    found: Document = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def engines_of(config: Document) -> Document:
    """The cluster that dials pods, under the name that AIBrix's policy gives it."""
    (cluster,) = [each for each in config["static_resources"]["clusters"] if each["name"] == "engines"]
    found: Document = cluster | {"name": CLUSTER}
    return found


def others_of(config: Document) -> list[Document]:
    """The host's own clusters that no object of Envoy Gateway stands for."""
    made = ("engines", "ext_proc", "gateway_http")
    clusters: list[Document] = config["static_resources"]["clusters"]
    return [each for each in clusters if each["name"] not in made]


def strategy_route(config: Document, host: Host) -> Document:
    """The route of requests for which a pod was chosen."""
    routes = manager_of(config)["route_config"]["virtual_hosts"][0]["routes"]
    (route,) = [each for each in routes if each.get("route", {}).get("cluster") == "engines"]
    filter_name = EXT_PROC if host == Host.GRPC else "gateway"
    enabled = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}
    return {
        "name": "original_route",
        **route,
        "route": route["route"] | {"cluster": CLUSTER},
        "typed_per_filter_config": {filter_name: enabled},
    }


def _patch(kind: str, name: str, path: str, value: object) -> Document:
    type_url = f"type.googleapis.com/envoy.config.{kind}"
    return {"type": type_url, "name": name, "operation": {"op": "add", "path": path, "value": value}}


def patches(host: Host) -> list[Document]:
    """What is added to what Envoy Gateway makes."""
    config = configuration(host)
    manager = manager_of(config)
    listed = [
        _patch("route.v3.RouteConfiguration", LISTENER, "/virtual_hosts/0/routes/0", strategy_route(config, host)),
        _patch("cluster.v3.Cluster", "envoy-patch-policy-override2", "", engines_of(config)),
    ]
    listed += [_patch("cluster.v3.Cluster", each["name"], "", each) for each in others_of(config)]
    listed += [_patch("listener.v3.Listener", LISTENER, f"{MANAGER}/{key}", manager[key]) for key in MANAGER_FIELDS]
    if host == Host.MODULE:
        filters = [each for each in manager["http_filters"] if each["name"] == "gateway"]
        on = [{key: value for key, value in each.items() if key != "disabled"} for each in filters]
        listed += [_patch("listener.v3.Listener", LISTENER, f"{MANAGER}/http_filters/0", each) for each in on]
    return listed


def policy(host: Host) -> str:
    """The object as YAML."""
    document = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyPatchPolicy",
        "metadata": {"name": "aibrix-epp", "namespace": NAMESPACE},
        "spec": {
            "type": "JSONPatch",
            "targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY},
            "jsonPatches": patches(host),
        },
    }
    head = "# Made by python -m gateway.policies from deploy/envoy.\n"
    return head + yaml.dump(document, Dumper=_Plain, sort_keys=False, width=WIDTH)


def main() -> int:
    """Write the files, or compare them."""
    if "--check" in sys.argv:
        return int(any(path.read_text() != policy(host) for host, path in FILES.items()))
    for host, path in FILES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(policy(host))
    return 0


if __name__ == "__main__":
    sys.exit(main())

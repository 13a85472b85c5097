"""The rendered Envoy configuration, as Envoy itself reads it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.envoy import EnvoyValues, environment_for, render
from gateway.settings import Host
from gateway.tracing import Tracing
from tests.gateway.rig import ENVOY


def values(host: Host = Host.GRPC, **changes: Any) -> EnvoyValues:
    given: dict[str, Any] = {
        "host": host,
        "listen_port": 8888,
        "admin_port": 19901,
        "ext_proc": ("unix:/run/a.sock", "127.0.0.1:50052"),
        "http": "127.0.0.1:18082",
        "access_log": Path("/dev/null"),
    }
    return EnvoyValues(**given | changes)


def validate(text: str, folder: Path, environment: dict[str, str] | None = None) -> str:
    config = folder / "envoy.yaml"
    config.write_text(text)
    command = [ENVOY, "--mode", "validate", "-c", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | (environment or {}))
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("host", Host)
def test_envoy_accepts_the_configuration(tmp_path: Path, host: Host) -> None:
    given = values(host, segment=tmp_path / "segment")
    assert validate(render(given), tmp_path, environment_for(given)) == ""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("sampler", ["always_off", "parentbased_traceidratio"])
def test_envoy_accepts_spans_over_tls(tmp_path: Path, protocol: str, sampler: str) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": "X-Tenant=a",
        "OTEL_TRACES_SAMPLER": sampler,
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
    }
    text = render(values(tracing=Tracing.from_environment(variables)))
    assert validate(text, tmp_path) == ""
    (cluster,) = [each for each in yaml.safe_load(text)["static_resources"]["clusters"] if each["name"] == "spans"]
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    assert context["match_typed_subject_alt_names"][0]["matcher"] == {"exact": "collector.example"}


def test_envoy_refuses_a_module_configuration_that_is_none(tmp_path: Path) -> None:
    given = values(Host.MODULE, max_requests=0)
    assert "the configuration must be" in validate(render(given), tmp_path, environment_for(given))


def test_envoy_complains_of_a_wrong_configuration(tmp_path: Path) -> None:
    assert "envoy" in validate(render(values()).replace("ORIGINAL_DST", "ORIGINAL_DUST"), tmp_path).lower()


@pytest.mark.parametrize("hostile", ["/tmp/a b", '/tmp/"x": {', "/tmp/x\n  y: z", "/tmp/${listen_port}"])
def test_no_value_breaks_out_of_its_place(hostile: str) -> None:
    manager = yaml.safe_load(render(values(access_log=Path(hostile))))["static_resources"]["listeners"][0]
    log = manager["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0]
    assert log["typed_config"]["path"] == hostile


def test_each_gateway_process_is_an_endpoint_of_its_own() -> None:
    clusters = {each["name"]: each for each in yaml.safe_load(render(values()))["static_resources"]["clusters"]}
    (group,) = clusters["ext_proc"]["load_assignment"]["endpoints"]
    addresses = [each["endpoint"]["address"] for each in group["lb_endpoints"]]
    assert addresses == [
        {"pipe": {"path": "/run/a.sock"}},
        {"socket_address": {"address": "127.0.0.1", "port_value": 50052}},
    ]


def test_the_log_line_holds_no_query_and_no_body() -> None:
    manager = yaml.safe_load(render(values()))["static_resources"]["listeners"][0]
    log = manager["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0]["typed_config"]
    shown = " ".join(log["log_format"]["json_format"].values())
    assert "REQ(:PATH)" not in shown
    assert "AUTHORIZATION" not in shown.upper()

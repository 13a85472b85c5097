"""Envoy Gateway's objects say what the local Envoy configuration says, for both hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.envoy import BODY_LIMIT_BYTES, MESSAGE_TIMEOUT
from gateway.policies import DEPLOY, FILES, configuration, manager_of, policy
from gateway.settings import Host
from local.control_plane_only import ControlPlane


def objects(path: Path) -> dict[str, dict[str, object]]:
    return {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}


@pytest.mark.parametrize("host", Host)
def test_the_patches_are_those_of_the_local_configuration(host: Host) -> None:
    assert FILES[host].read_text() == policy(host)


def test_the_body_limit_and_the_message_timeout_are_the_same() -> None:
    traffic = objects(DEPLOY / "gateway" / "gateway.yaml")["ClientTrafficPolicy"]
    assert traffic["spec"] | {"connection": {"bufferLimit": BODY_LIMIT_BYTES}} == traffic["spec"]  # type: ignore[operator]
    (asked,) = [
        each
        for each in yaml.safe_load_all((DEPLOY / "gateway" / "policies.yaml").read_text())
        if each["spec"].get("extProc")
    ]
    assert asked["spec"]["extProc"][0]["messageTimeout"] == f"{MESSAGE_TIMEOUT.total_seconds():.0f}s"


def test_ext_proc_is_asked_for_the_same_phases_and_attributes() -> None:
    (gateway,) = [each for each in manager_of(configuration(Host.GRPC))["http_filters"] if each["name"] == "gateway"]
    local = gateway["typed_config"]
    (asked,) = [
        each
        for each in yaml.safe_load_all((DEPLOY / "gateway" / "policies.yaml").read_text())
        if each["spec"].get("extProc")
    ]
    mode = asked["spec"]["extProc"][0]["processingMode"]
    assert mode["allowModeOverride"] == local["allow_mode_override"]
    assert mode["request"]["body"].upper() == local["processing_mode"]["request_body_mode"]
    assert mode["response"]["body"].upper() == local["processing_mode"]["response_body_mode"]
    assert mode["response"]["attributes"] == local["response_attributes"]
    assert asked["spec"]["extProc"][0]["failOpen"] == local["failure_mode_allow"]


def test_the_modules_objects_replace_ext_proc_and_bring_the_collector(control_plane: ControlPlane) -> None:
    built = list(yaml.safe_load_all(control_plane.kubectl("kustomize", str(DEPLOY / "gateway-module"))))
    assert "EnvoyExtensionPolicy" not in {each["kind"] for each in built}
    (patch,) = [each for each in built if each["kind"] == "EnvoyPatchPolicy"]
    assert patch["spec"]["jsonPatches"] == yaml.safe_load(FILES[Host.MODULE].read_text())["spec"]["jsonPatches"]
    (proxy,) = [each for each in built if each["kind"] == "EnvoyProxy"]
    pod = proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"]["patch"]["value"]["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["containers"]] == ["envoy", "collector", "shutdown-manager"]
    assert {mount["name"] for each in pod["containers"][:2] for mount in each["volumeMounts"]} == {"segment"}

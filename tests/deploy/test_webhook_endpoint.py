"""How the API server of this machine finds the operator's webhooks."""

from __future__ import annotations

import dataclasses
import json

from local.settings import LocalSettings
from local.webhooks import endpoint_slice, publish_webhook_endpoint


def test_the_services_endpoint_is_the_operators_port_on_the_bridge(control_plane):
    settings = dataclasses.replace(control_plane.settings, operator_webhook_port=1234)
    publish_webhook_endpoint(settings, "198.18.1.1")
    slice_of = ("endpointslice", "aibrix-webhook-service-local", "-n", "aibrix-system")
    found = json.loads(control_plane.kubectl("get", *slice_of, "-o", "json"))
    assert found["endpoints"][0]["addresses"] == ["198.18.1.1"]
    assert found["ports"] == [{"name": "webhook", "port": 1234, "protocol": "TCP"}]
    made = endpoint_slice(settings.bridge_address, settings)
    assert made["endpoints"][0]["addresses"] == [settings.bridge_address]
    control_plane.kubectl("delete", *slice_of)


def test_nothing_is_done_in_a_cluster_that_the_user_brings(tmp_path):
    publish_webhook_endpoint(LocalSettings(home=tmp_path, external_kubeconfig=tmp_path / "none"))

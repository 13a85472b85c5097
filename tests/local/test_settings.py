"""Settings: one documented table, read from the environment, and enough to run a second system beside the first."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import local.settings
from local.errors import SettingError
from local.settings import CHECKOUT, LocalSettings

ROW = re.compile(r"^\| (BRIXFLOW_\w+) \| (.+?) \|", re.MULTILINE)


def test_the_table_lists_every_variable_with_its_default() -> None:
    documented = dict(ROW.findall(local.settings.__doc__ or ""))
    defaults = LocalSettings()
    assert list(documented) == [entry.metadata["variable"] for entry in fields(LocalSettings)]
    for entry in fields(LocalSettings):
        value = getattr(defaults, entry.name)
        if isinstance(value, int | str):
            assert documented[entry.metadata["variable"]] == str(value)


def test_variables_override_defaults_and_empty_ones_do_not() -> None:
    settings = LocalSettings.from_environment(
        {"BRIXFLOW_GATEWAY_PORT": "9999", "BRIXFLOW_HOME": "/tmp/x", "BRIXFLOW_ETCD_PORT": "", "UNRELATED": "1"}
    )
    assert (settings.gateway_port, settings.home, settings.etcd_port) == (9999, Path("/tmp/x"), 12379)


def test_settings_survive_the_way_through_an_environment() -> None:
    settings = LocalSettings(home=Path("/tmp/x"), node_port=1234, pod_cidr="10.9.0.0/24", external_temporal="t:7233")
    assert LocalSettings.from_environment(settings.environment()) == settings


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BRIXFLOW_GATEWAY_PORT", "http"),
        ("BRIXFLOW_GATEWAY_PORT", "70000"),
        ("BRIXFLOW_TEMPORAL_PORT", "0"),
        ("BRIXFLOW_POD_CIDR", "10.86.0.1/16"),
        ("BRIXFLOW_POD_CIDR", "10.86.0.0/31"),
        ("BRIXFLOW_SERVICE_CIDR", "fd00::/64"),
    ],
)
def test_a_value_that_cannot_be_used_is_said_with_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=variable):
        LocalSettings.from_environment({variable: value})


def test_the_first_addresses_are_the_bridge_and_the_kubernetes_service() -> None:
    settings = LocalSettings()
    assert (settings.bridge_address, settings.service_address) == ("10.86.0.1", "10.87.0.1")


def test_two_homes_have_two_segments() -> None:
    first, second = LocalSettings(home=Path("/a")).segment_path, LocalSettings(home=Path("/b")).segment_path
    assert first != second
    assert re.fullmatch(r"/dev/shm/brixflow-[0-9a-f]{8}/segment", str(first))


def test_no_two_parts_want_the_same_port() -> None:
    numbers = [port.number for port in LocalSettings().ports()]
    assert len(numbers) == len(set(numbers)) == 16


def test_the_default_home_is_in_the_checkout() -> None:
    assert LocalSettings.from_environment({}).home == CHECKOUT / ".brixflow"

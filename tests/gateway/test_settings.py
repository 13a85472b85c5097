"""What the environment means to the gateway."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from csrc.binding import Fairness
from gateway.settings import GatewaySettings, Host, host_and_port


def test_an_empty_environment_means_the_defaults_of_the_table() -> None:
    settings = GatewaySettings.from_environment({})
    assert (settings.processes, settings.default_strategy, settings.api_key) == (2, "", "")
    assert settings.drain == timedelta(seconds=120)
    assert settings.ext_proc_address == "127.0.0.1:50052"
    assert settings.gateway_pod


@pytest.mark.parametrize(
    ("given", "strategy"),
    [
        ({"ROUTING_ALGORITHM": " random "}, "random"),
        ({"ROUTING_ALGORITHM": ""}, ""),
        ({"AIBRIX_ROUTING_ALGORITHM": "least_request"}, "least-request"),  # gateway-ops 37
        ({"ROUTING_ALGORITHM": "random", "AIBRIX_ROUTING_ALGORITHM": "least_request"}, "random"),
    ],
)
def test_the_default_strategy_and_its_alias(given: dict[str, str], strategy: str) -> None:
    assert GatewaySettings.from_environment(given).default_strategy == strategy


@pytest.mark.parametrize("value", ["", "x", "0", "-3"])
def test_a_number_that_means_nothing_is_the_default(value: str) -> None:  # gateway-ops 12
    assert GatewaySettings.from_environment({"BRIXFLOW_GATEWAY_PROCESSES": value}).processes == 2


def test_requests_are_decided_in_envoy_unless_said_otherwise() -> None:
    assert GatewaySettings.from_environment({}).host == Host.MODULE
    assert GatewaySettings.from_environment({"BRIXFLOW_GATEWAY_HOST": "grpc"}).host == Host.GRPC
    with pytest.raises(ValueError, match="BRIXFLOW_GATEWAY_HOST is 'lua': it must be module or grpc"):
        GatewaySettings.from_environment({"BRIXFLOW_GATEWAY_HOST": "lua"})


def test_each_process_has_a_socket_beside_the_segment() -> None:
    given = {"BRIXFLOW_SEGMENT_PATH": "/dev/shm/x/segment", "BRIXFLOW_GATEWAY_PROCESSES": "3"}
    assert GatewaySettings.from_environment(given).sockets == ()
    settings = GatewaySettings.from_environment(given | {"BRIXFLOW_GATEWAY_HOST": "grpc"})
    assert settings.segment_path == Path("/dev/shm/x/segment")
    assert settings.sockets == tuple(f"unix:/dev/shm/x/ext_proc-{index}.sock" for index in range(3))


@pytest.mark.parametrize(
    ("address", "pair"), [("127.0.0.1:1", ("127.0.0.1", 1)), (":8080", ("", 8080)), ("[::1]:9", ("::1", 9))]
)
def test_addresses(address: str, pair: tuple[str, int]) -> None:
    assert host_and_port(address) == pair


VTC = "AIBRIX_ROUTER_VTC_"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Fairness()),
        ({f"{VTC}TOKEN_TRACKER_WINDOW_SIZE": "30"}, Fairness(window=timedelta(minutes=30))),
        ({f"{VTC}TOKEN_TRACKER_TIME_UNIT": "seconds"}, Fairness(window=timedelta(seconds=5))),
        (
            {f"{VTC}TOKEN_TRACKER_TIME_UNIT": "milliseconds", f"{VTC}TOKEN_TRACKER_WINDOW_SIZE": "100"},
            Fairness(window=timedelta(milliseconds=100)),
        ),
        ({f"{VTC}TOKEN_TRACKER_TIME_UNIT": "fortnights"}, Fairness()),
        ({f"{VTC}TOKEN_TRACKER_MIN_TOKENS": "0", f"{VTC}TOKEN_TRACKER_MAX_TOKENS": "9"}, Fairness(most_tokens=9)),
        ({f"{VTC}BASIC_MAX_POD_LOAD": "7"}, Fairness(full_load=7)),
        ({f"{VTC}BASIC_UTILIZATION_WEIGHT": "0"}, Fairness(utilization_weight=0)),
        ({f"{VTC}BASIC_OUTPUT_TOKEN_WEIGHT": "1.5"}, Fairness(output_weight=1.5)),
        ({f"{VTC}BASIC_INPUT_TOKEN_WEIGHT": "-1", f"{VTC}BASIC_FAIRNESS_WEIGHT": "many"}, Fairness()),
    ],
)
def test_fair_sharing_is_set_by_the_names_that_people_know(variables: dict[str, str], expected: Fairness) -> None:
    assert GatewaySettings.from_environment(variables).fair == expected


def test_limits_are_none_by_default_and_a_question_waits_50_ms() -> None:
    own = GatewaySettings.from_environment({})
    assert (own.users_file, own.redis_host, own.model_in_flight, own.pod_in_flight) == (None, "", 0, 0)
    assert own.ask_within == timedelta(milliseconds=50)
    assert not own.limits_fail_closed


def test_limits_are_set_by_the_names_in_the_table() -> None:
    own = GatewaySettings.from_environment(
        {
            "BRIXFLOW_USERS_FILE": "/users.json",
            "REDIS_HOST": "redis",
            "REDIS_PORT": "7000",
            "REDIS_PASSWORD": "word",
            "BRIXFLOW_LIMITS_FAIL_CLOSED": "true",
            "BRIXFLOW_LIMITS_DEADLINE_MS": "20",
            "BRIXFLOW_MAX_IN_FLIGHT_PER_MODEL": "9",
            "BRIXFLOW_MAX_IN_FLIGHT_PER_POD": "3",
        }
    )
    assert own.users_file == Path("/users.json")
    assert (own.redis_host, own.redis_port, own.redis_password) == ("redis", 7000, "word")
    assert (own.limits_fail_closed, own.ask_within) == (True, timedelta(milliseconds=20))
    assert (own.model_in_flight, own.pod_in_flight) == (9, 3)

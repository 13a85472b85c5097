"""Every strategy against its Python oracle, and sessions against theirs."""

from __future__ import annotations

import base64

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.binding import Pod, SegmentReader, SegmentWriter
from tests.csrc.choosing import Candidate, best, chosen, many, normalised, published, raw_scores

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STRATEGIES = (
    "least-request", "least-busy-time", "least-gpu-cache", "least-kv-cache", "least-utilization", "throughput",
    "least-latency",
)  # fmt: skip

shares = st.sampled_from([0.0, 0.05, 0.25, 0.5, 0.75, 1.0])
seconds = st.sampled_from([0.0, 0.001, 0.02, 0.5, 1.5, 30.0])
tokens = st.sampled_from([0.0, 1.0, 10.0, 128.0, 4096.0])
counts = st.integers(0, 5).map(float)
gauges = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("busy", "gpu_cache", "kv_cache", "cpu_cache", "utilization"), shares),
        **dict.fromkeys(("queue_time", "prefill_time", "decode_time"), seconds),
        **dict.fromkeys(("prompt_length", "generation_length"), tokens),
        **dict.fromkeys(("local", "remote", "running"), counts),
    },
)
candidates = st.lists(
    st.builds(Candidate, running=st.integers(0, 4), gauges=st.none() | gauges), min_size=1, max_size=8
)


@given(candidates, st.sampled_from(STRATEGIES), st.integers(0, 2**63), st.sampled_from([0, 7, 4000]))
@EXAMPLES
def test_one_strategy_picks_what_its_oracle_picks(
    writer: SegmentWriter, reader: SegmentReader, pods: list[Candidate], strategy: str, seed: int, prompt: int
) -> None:
    expected = best([-score for score in raw_scores(strategy, pods, prompt)])
    with published(writer, reader, pods):
        assert chosen(reader, strategy, seed, prompt) in expected


@given(
    candidates,
    st.lists(st.tuples(st.sampled_from(STRATEGIES), st.integers(1, 10)), min_size=2, max_size=4),
    st.integers(0, 2**63),
)
@EXAMPLES
def test_a_list_picks_what_its_oracle_picks(
    writer: SegmentWriter, reader: SegmentReader, pods: list[Candidate], items: list[tuple[str, int]], seed: int
) -> None:
    parts = [(weight, normalised(raw_scores(name, pods))) for name, weight in items]
    whole = sum(weight for weight, _ in parts)
    finals = [sum(weight * part[index] for weight, part in parts) / whole for index in range(len(pods))]
    with published(writer, reader, pods):
        assert chosen(reader, ",".join(f"{name}:{weight}" for name, weight in items), seed) in best(finals)


def weight_of(key: str, address: str) -> int:
    """FNV-1a over key, a zero byte and the address (routing.md 5.6)."""
    value = 14695981039346656037
    for byte in key.encode() + b"\0" + address.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


def test_the_oracle_knows_the_scores_of_r43() -> None:
    addresses = [f"10.0.0.{n}:8000" for n in (1, 2, 3)]
    weights = [weight_of("session-42", address) for address in addresses]
    assert weights == [0x273BAF7BA392B056, 0xC9045A66FAA9AA11, 0xD7EA597C964E3F4C]


addresses = st.lists(
    st.builds("{}:{}".format, st.ip_addresses(v=4) | st.ip_addresses(v=6).map("[{}]".format), st.integers(1, 65535)),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(addresses, st.text(min_size=1, max_size=60), st.data(), st.booleans())
@EXAMPLES
def test_sessions_go_where_the_oracle_says(
    writer: SegmentWriter, reader: SegmentReader, listed: list[str], key: str, data: st.DataObject, by_id: bool
) -> None:
    writer.publish({"m": [Pod(f"u{n}", "d", f"p{n}", each, ready=True) for n, each in enumerate(listed)]})
    known = data.draw(st.sampled_from(listed))
    session_id = base64.b64encode(known.encode()).decode() if by_id else ""
    decision = reader.decide("m", "session-affinity", session_id=session_id, session_key=key)
    reader.finish(decision)
    assert decision.address == (known if by_id else max(listed, key=lambda each: weight_of(key, each)))


@given(st.integers(500, 1600), st.integers(0, 2**63), st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_models_of_many_pods_are_searched_whole(
    segment_path: object, count: int, seed: int, data: st.DataObject
) -> None:
    """More candidates than the kernel looks at in one go: the least may stand anywhere."""
    least, full = data.draw(st.integers(0, count - 1)), {"kv_cache": 0.5, "utilization": 0.5}
    pods = [Candidate(gauges={"kv_cache": 0.4, "utilization": 0.4} if n == least else full) for n in range(count)]
    with many(str(segment_path)) as (writer, reader), published(writer, reader, pods):
        for strategy in ("least-kv-cache", "least-utilization,least-kv-cache:3"):
            assert chosen(reader, strategy, seed) == least
        assert 0 <= chosen(reader, "random", seed) < count
        assert 0 <= chosen(reader, "power-of-two", seed) < count

"""Limits of users, models and pods in the segment: rows of gateway.md, exactness, and memory that stays flat."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csrc.binding import Origin, Pod, SegmentReader, SegmentWriter, Settings, User, UserRules, Verdict
from csrc.limit_table import USERS_CAPACITY
from csrc.records import ModelProfiles, Profile
from tests.csrc.conftest import LIMITS
from tests.csrc.messages import Answer, Request, chat, pod, read_answer, request_body

HERE = UserRules(known=True, complete=True)
ASKED = UserRules(known=True)
SHARED = UserRules(known=True, shared=True)
USAGE = b'{"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}'
MINUTE = 60.0


def publish(writer: SegmentWriter, rules: UserRules = HERE, *, rps: int = 0, **more: int) -> None:
    settings = Settings(default_strategy="least-request", users=rules, **more)  # type: ignore[arg-type]
    profiles = ModelProfiles(profiles=(Profile("default", is_default=True, requests_per_second=rps),))
    writer.publish({"llama2-7b": [pod(1), pod(2)]}, settings, {"llama2-7b": profiles} if rps else {})


@pytest.fixture(autouse=True)
def in_one_window() -> None:
    """No test begins in the last seconds of a minute, nor late in a second: its counts are those of one window."""
    await_window(2)


def await_window(seconds: float) -> None:
    """Until so much of the minute, and enough of the second, is left."""
    while time.monotonic() % MINUTE > MINUTE - seconds or time.monotonic() % 1 > 0.6:
        time.sleep(0.02)


class Caller:
    """Sends whole requests of users; keeps what is under way."""

    def __init__(self, reader: SegmentReader) -> None:
        self.reader = reader
        self.begun: list[Request] = []

    def headers(self, user: str) -> Answer:
        self.begun.append(Request(self.reader))
        return self.begun[-1].headers(user=user) if user else self.begun[-1].headers()

    def body(self, **members: object) -> Answer | bytes:
        """The answer, or the question that is asked instead."""
        request = self.begun[-1]
        message = chat_message(**members)
        raw = request.flow.process(message)
        asked = request.flow.question
        return read_answer(raw) if asked is None else asked

    def send(self, user: str, **members: object) -> Answer:
        refused = self.headers(user)
        if refused.status:
            return refused
        answer = self.body(**members)
        assert isinstance(answer, Answer)
        return answer

    def finish(self, body: bytes = USAGE) -> None:
        self.begun[-1].answer_headers()
        self.begun[-1].answer_body(body)


def chat_message(**members: object) -> bytes:
    return request_body(json.dumps(chat(**members)).encode())


@pytest.fixture
def caller(reader: SegmentReader) -> Iterator[Caller]:
    made = Caller(reader)
    yield made
    for request in made.begun:
        request.close()


def test_13_14_the_last_request_of_the_minute_passes_and_the_next_does_not(
    writer: SegmentWriter, caller: Caller
) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=10)})
    for count in range(1, 11):
        assert caller.send("ada").status == 0
        assert caller.begun[-1].answer_headers().set["x-update-rpm"] == str(count)
    refused = caller.send("ada")
    assert refused.status == 429
    assert refused.set["x-error-rpm-exceeded"] == "true"
    assert refused.set["content-type"] == "application/json"
    assert 1 <= int(refused.set["retry-after"]) <= 60
    assert refused.error == {
        "message": "user: ada has exceeded RPM: 10", "type": "rate_limit_error", "code": "rate_limit_exceeded",
        "param": None,
    }  # fmt: skip


def test_15_91_tokens_of_answers_are_charged_and_then_refused(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=10, tpm=60)})
    for _ in range(2):
        assert caller.send("ada").status == 0
        caller.finish()
    refused = caller.send("ada")
    assert (refused.status, refused.set["x-error-tpm-exceeded"]) == (429, "true")
    assert refused.error["message"] == "user: ada has exceeded TPM: 60"
    assert refused.error["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(("rpm", "passes"), [(0, 100), (1, 1)])
def test_a_limit_of_zero_stands_for_the_default(writer: SegmentWriter, caller: Caller, rpm: int, passes: int) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=rpm)})
    assert [caller.send("ada").status for _ in range(passes + 1)] == [0] * passes + [429]


def test_tokens_without_a_limit_of_their_own_are_a_thousand_a_request(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=2)})
    assert caller.send("ada").status == 0
    caller.finish(b'{"usage":{"total_tokens":2000}}')
    assert caller.send("ada").error["message"] == "user: ada has exceeded TPM: 2000"


def test_6_a_name_that_nobody_has_is_refused_before_the_body(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer)
    writer.limits.replace({"ada": User()})
    for name in ("eve", "ada" * 100):
        refused = caller.headers(name)
        assert (refused.status, refused.set["x-error-user"]) == (401, "true")
        assert refused.error["type"] == "authentication_error"
        assert refused.error["code"] == "invalid_user"
        assert "x-went-into-req-headers" not in refused.set


def test_7_without_a_name_or_without_users_nothing_is_limited(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=1)})
    for _ in range(3):
        assert caller.headers("").set["x-went-into-req-headers"] == "true"
    publish(writer, UserRules())
    assert [caller.send("eve").status for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("tpm", "options", "status"),
    [(1000, None, 400), (1000, False, 400), (1000, True, 0), (0, None, 0)],
)
def test_24_25_a_stream_of_a_user_with_a_token_limit_tells_its_usage(
    writer: SegmentWriter, caller: Caller, tpm: int, options: bool | None, status: int
) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(tpm=tpm)})
    more = {} if options is None else {"stream_options": {"include_usage": options}}
    answer = caller.send("ada", stream=True, **more)
    assert answer.status == status
    if status:
        words = "include usage for stream options not set"
        assert answer.set["x-error-no-stream-options-include-usage"] == words
        assert (answer.error["message"], answer.error["param"]) == (words, "stream_options")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", b'{"model":"llama2-7b","stream":true,"messages":[{"content":"a"}]}'),
        ("/v1/responses", b'{"model":"llama2-7b","stream":true,"input":"a"}'),
    ],
)
def test_26_28_other_streams_need_not_ask_for_it(writer: SegmentWriter, caller: Caller, path: str, body: bytes) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(tpm=1000)})
    request = Request(caller.reader)
    caller.begun.append(request)
    assert request.headers(path, user="ada").status == 0
    assert request.body(body).status == 0


def test_67_69_a_model_takes_so_many_requests_a_second(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, rps=2)
    answers = [caller.send("") for _ in range(3)]
    assert [each.status for each in answers] == [0, 0, 429]
    assert answers[2].set["x-error-model-rps-exceeded"] == "true"
    assert answers[2].set["retry-after"] == "1"
    assert answers[2].error["message"] == "model: llama2-7b has exceeded RPS: 2"
    publish(writer)
    assert [caller.send("").status for _ in range(5)] == [0] * 5


def test_68_a_request_that_is_not_routed_counts_for_nobody(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, rps=1)
    writer.limits.replace({"ada": User(rpm=1)})
    request = Request(caller.reader)
    caller.begun.append(request)
    request.headers(user="ada", external_filter="zone=nowhere")
    assert request.body(chat()).status == 503
    assert caller.send("ada").status == 0
    assert caller.send("").status == 429
    assert caller.send("ada").status == 429


def test_a_request_that_its_user_may_not_make_is_none_of_the_models(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, rps=1)
    writer.limits.replace({"ada": User(rpm=1)})
    for user in ("ada", "ada", ""):
        assert caller.headers(user).status == 0
    first, second, other = caller.begun
    assert first.body(chat()).status == 0
    time.sleep(1.02 - time.monotonic() % 1)
    assert second.body(chat()).error["message"] == "user: ada has exceeded RPM: 1"
    assert other.body(chat()).status == 0


def test_pods_and_models_take_so_many_requests_at_one_time(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, pod_in_flight=1)
    assert {caller.send("").set["target-pod"] for _ in range(2)} == {"10.86.0.1:8000", "10.86.0.2:8000"}
    refused = caller.send("")
    assert (refused.status, refused.set["retry-after"]) == (429, "1")
    assert refused.error["message"] == "model: llama2-7b has too many requests in flight"
    assert refused.error["code"] == "rate_limit_exceeded"
    caller.begun[0].close()
    assert caller.send("").status == 0
    publish(writer, model_in_flight=2)
    assert caller.send("").status == 429
    caller.begun[1].close()
    assert caller.send("").status == 0
    totals = writer.totals()
    assert (totals.anomalies, sum(each.running for each in totals.pods)) == (0, 2)


def test_no_limit_is_passed_by_many_that_come_at_once(writer: SegmentWriter, reader: SegmentReader) -> None:
    publish(writer, rps=0, pod_in_flight=7, model_in_flight=12)

    def decide(_number: int) -> bool:
        return reader.decide("llama2-7b").verdict is Verdict.CHOSEN

    with ThreadPoolExecutor(8) as pool:
        passed = sum(pool.map(decide, range(200)))
    assert 0 < passed <= 12
    assert all(each.running <= 7 for each in writer.totals().pods)


def test_users_that_left_the_list_are_nobody_and_counts_outlive_a_new_list(
    writer: SegmentWriter, caller: Caller
) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=2), "bob": User(rpm=2)})
    assert caller.send("ada").status == caller.send("bob").status == 0
    writer.limits.replace({"ada": User(rpm=2)})
    assert caller.send("ada").status == 0
    assert caller.send("ada").status == 429
    assert caller.send("bob").status == 401


@pytest.mark.parametrize("names", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_invented_names_leave_memory_flat_and_limits_exact(
    writer: SegmentWriter, caller: Caller, names: int
) -> None:
    """A name that nobody has takes a row for five seconds; of those the oldest goes, never one with a limit."""
    publish(writer, ASKED)
    real = {f"user-{number}": User(rpm=2) for number in range(1000)}
    assert writer.limits.replace(real) == 0
    size = writer.totals().bytes
    put, last = writer.limits.put, names - 50_000
    for number in range(last):
        assert put(f"invented-{number}", None, now=time.monotonic()) is not None
    await_window(8)
    assert caller.send("user-7").status == 0
    for number in range(last, names):
        assert put(f"invented-{number}", None, now=time.monotonic()) is not None
    assert writer.totals().bytes == size
    assert [caller.send("user-7").status for _ in range(2)] == [0, 429]
    assert [caller.send("user-8").status for _ in range(3)] == [0, 0, 429]
    assert caller.send(f"invented-{names - 1}").status == 401


def test_a_full_table_says_so_and_lets_the_idle_go_only_when_told(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, ASKED)
    left_out = writer.limits.replace({f"user-{number}": User(rpm=1) for number in range(USERS_CAPACITY + 500)})
    assert 500 <= left_out < USERS_CAPACITY // 5
    names = (f"late-{number}" for number in range(10_000))
    late = next(name for name in names if writer.limits.put(name, User(rpm=1)) is None)
    assert writer.limits.put(late, User(rpm=1), replaces=True) is not None
    assert [caller.send(late).status for _ in range(2)] == [0, 429]


# The collector is asked


def question(caller: Caller, user: str, **members: object) -> bytes:
    assert caller.headers(user).status == 0
    asked = caller.body(**members)
    assert isinstance(asked, bytes)
    return asked


def test_an_unknown_name_is_asked_for(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, ASKED)
    expected = b'{"user":"a\\"da","model":"llama2-7b","profile":"","rps":0,"lacks_usage":0}'
    assert question(caller, 'a"da') == expected
    writer.limits.put('a"da', User(rpm=1))
    answer = read_answer(caller.begun[-1].flow.answer(b"L"))
    assert (answer.kind, answer.status) == ("request_body", 0)
    assert answer.set["target-pod"].startswith("10.86.0.")
    assert caller.send('a"da').status == 429
    assert writer.totals().asked == 1


def test_a_name_that_nobody_has_is_asked_for_once_in_five_seconds(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, ASKED)
    question(caller, "eve")
    writer.limits.put("eve", None)
    assert read_answer(caller.begun[-1].flow.answer(b"U")).status == 401
    assert caller.headers("eve").status == 401
    writer.limits.put("eve", None, now=time.monotonic() - 5)
    question(caller, "eve")
    assert writer.totals().asked == 2


@pytest.mark.parametrize(
    ("said", "status", "header", "message"),
    [
        (b"R 10", 429, "x-error-rpm-exceeded", "user: ada has exceeded RPM: 10"),
        (b"T 100", 429, "x-error-tpm-exceeded", "user: ada has exceeded TPM: 100"),
        (b"S 3", 429, "x-error-model-rps-exceeded", "model: llama2-7b has exceeded RPS: 3"),
        (b"U", 401, "x-error-user", "user: ada does not exist"),
        (b"u", 500, "x-error-user", "fail to get user: ada"),
        (b"r", 500, "x-error-rpm-exceeded", "fail to get RPM for user: ada"),
        (b"i", 500, "x-error-incr-rpm", "fail to increment RPM for user: ada"),
        (b"t", 500, "x-error-tpm-exceeded", "fail to get TPM for user: ada"),
        (b"s", 500, "x-error-incr-model-rps", "fail to increment RPS for model: llama2-7b"),
    ],
)
def test_16_what_the_collector_says_is_what_the_client_gets(
    writer: SegmentWriter, caller: Caller, said: bytes, status: int, header: str, message: str
) -> None:
    publish(writer, SHARED)
    writer.limits.replace({"ada": User(rpm=1)})
    question(caller, "ada")
    refused = read_answer(caller.begun[-1].flow.answer(said))
    assert (refused.status, refused.set[header], refused.error["message"]) == (status, "true", message)
    assert not sum(each.running for each in writer.totals().pods)


def test_what_was_admitted_elsewhere_counts_here_as_well(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, SHARED)
    writer.limits.replace({"ada": User(rpm=1)})
    question(caller, "ada")
    assert read_answer(caller.begun[-1].flow.answer(b"A 5")).status == 0
    assert caller.begun[-1].answer_headers().set["x-update-rpm"] == "5"
    assert caller.headers("ada").status == 429


@pytest.mark.parametrize(
    ("closed", "known", "statuses"), [(False, True, [0, 429]), (False, False, [0, 0]), (True, True, [500, 500])]
)
def test_without_an_answer_the_segment_decides_unless_that_is_forbidden(
    writer: SegmentWriter, caller: Caller, closed: bool, known: bool, statuses: list[int]
) -> None:
    publish(writer, UserRules(known=True, shared=True, closed=closed))
    if known:
        writer.limits.replace({"ada": User(rpm=1)})
    seen = []
    for _ in range(2):
        answer = caller.headers("ada")
        if answer.status == 0:
            assert isinstance(caller.body(), bytes)
            answer = read_answer(caller.begun[-1].flow.answer(b""))
        seen.append(answer.status)
    assert seen == statuses
    assert writer.totals().unanswered == writer.totals().asked > 0


def test_what_answers_used_is_owed_to_the_shared_store_once(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, SHARED)
    key = writer.limits.put("ada", User(rpm=10))
    for _ in range(2):
        question(caller, "ada")
        caller.begun[-1].flow.answer(b"A 1")
        caller.finish()
    assert writer.limits.owed() == {key: 60}
    assert writer.limits.owed() == {}


def test_counts_outlive_their_collector(segment_path: Path, writer: SegmentWriter, caller: Caller) -> None:
    publish(writer)
    writer.limits.replace({"ada": User(rpm=2), "bob": User()})
    assert caller.send("ada").status == 0
    writer.close()
    assert caller.send("ada").status == 0
    with SegmentWriter.open(segment_path, LIMITS) as next_writer:
        assert next_writer.origin is Origin.ADOPTED
        next_writer.limits.replace({"ada": User(rpm=3)})
        publish(next_writer)
        assert [caller.send("ada").status for _ in range(2)] == [0, 429]
        assert caller.send("bob").status == 401


def test_a_body_that_was_edited_waits_with_its_request(writer: SegmentWriter, caller: Caller) -> None:
    """Usage is asked for in a stream's body while the question is out; both the small and the large output keep it."""
    publish(writer, SHARED)
    for size in (1, 200_000):
        asked = question(caller, "ada", stream=True, max_tokens=1, padding="x" * size)
        assert b'"lacks_usage":1' in asked
        answer = read_answer(caller.begun[-1].flow.answer(b"A 1"))
        assert answer.body is not None
        assert json.loads(answer.body)["stream_options"] == {"include_usage": True}
        assert int(answer.set["content-length"]) == len(answer.body)


def test_each_profile_of_a_model_has_a_count_of_its_own(writer: SegmentWriter, caller: Caller) -> None:
    rows = [Profile(name, is_default=name == "a", requests_per_second=1) for name in ("a", "b")]
    settings = Settings(default_strategy="least-request")
    writer.publish({"llama2-7b": [pod(1)]}, settings, {"llama2-7b": ModelProfiles(profiles=tuple(rows))})

    def send(profile: str) -> int:
        request = Request(caller.reader)
        caller.begun.append(request)
        request.headers(config_profile=profile)
        return request.body(chat()).status

    assert [send(profile) for profile in ("a", "b", "a", "b")] == [0, 0, 429, 429]


def test_a_client_that_leaves_while_it_waits_ends_once(writer: SegmentWriter, caller: Caller) -> None:
    publish(writer, SHARED)
    question(caller, "ada")
    caller.begun[-1].close()
    totals = writer.totals()
    assert (totals.in_flight, totals.anomalies, sum(each.running for each in totals.pods)) == (0, 0, 0)


def test_pods_of_another_name_are_candidates_of_their_own_limit(writer: SegmentWriter, reader: SegmentReader) -> None:
    pods = [Pod(f"u{n}", "default", f"pod-{n}", f"10.0.0.{n + 1}:8000", ready=True) for n in range(3)]
    writer.publish({"a": pods[:2], "b": pods[1:]}, Settings(default_strategy="random", pod_in_flight=1))
    first = [reader.decide("a").pod for _ in range(2)]
    assert sorted(first) == ["pod-0", "pod-1"]
    assert reader.decide("b").pod == "pod-2"
    assert reader.decide("b").verdict is Verdict.TOO_MANY

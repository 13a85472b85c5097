"""Chat and text completions over a real socket: content, lengths, choices, streams and determinism."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from simulator.tokens import PackedTokenizer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


async def test_the_reply_names_pod_and_model(shared_engine):
    reply = await shared_engine.chat(max_tokens=10)
    assert reply["choices"][0]["message"]["content"] == "pod-a serves llama2-7b:"
    assert (await shared_engine.complete(max_tokens=10))["choices"][0]["text"] == "pod-a serves llama2-7b:"


async def test_as_many_tokens_as_claimed(shared_engine):
    reply = await shared_engine.complete(max_tokens=40)
    tokens = PackedTokenizer().encode(reply["choices"][0]["text"])
    assert len(tokens) == reply["usage"]["completion_tokens"] == 40
    assert reply["choices"][0]["finish_reason"] == "length"


async def test_without_a_limit_the_end_is_natural(shared_engine):
    reply = await shared_engine.chat()
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert 10 <= reply["usage"]["completion_tokens"] <= 500


async def test_max_completion_tokens_wins_over_max_tokens(shared_engine):
    reply = await shared_engine.chat(max_tokens=5, max_completion_tokens=7)
    assert reply["usage"]["completion_tokens"] == 7


async def test_n_choices_count_the_prompt_once(shared_engine):
    single = await shared_engine.chat(max_tokens=4)
    triple = await shared_engine.chat(max_tokens=4, n=3)
    assert [choice["index"] for choice in triple["choices"]] == [0, 1, 2]
    assert triple["usage"]["completion_tokens"] == 12
    assert triple["usage"]["prompt_tokens"] == single["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("prompt", "tokens", "choices"),
    [("one two three", 3, 1), (["one", "two three"], 3, 2), ([5, 6, 7, 8], 4, 1), ([[1, 2], [3]], 3, 2)],
)
async def test_a_prompt_may_be_text_texts_ids_or_lists_of_ids(shared_engine, prompt, tokens, choices):
    reply = await shared_engine.complete(prompt, max_tokens=2)
    assert reply["usage"]["prompt_tokens"] == tokens
    assert len(reply["choices"]) == choices


async def test_a_stop_string_ends_the_text_before_it(shared_engine):
    reply = await shared_engine.complete(max_tokens=20, stop=["llama2"])
    choice = reply["choices"][0]
    assert choice["text"] == "pod-a serves "
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "llama2")
    assert reply["usage"]["completion_tokens"] == 6


async def test_stream_and_plain_reply_have_the_same_text(shared_engine):
    plain = await shared_engine.complete(max_tokens=30, seed=7)
    events = await shared_engine.stream(COMPLETIONS, {"prompt": "hello", "max_tokens": 30, "seed": 7})
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == plain["choices"][0]["text"]
    assert events[-1] == "[DONE]"


async def test_a_chat_stream_begins_with_the_role_and_ends_with_usage(shared_engine):
    messages = [{"role": "user", "content": "hi"}]
    body = {"messages": messages, "max_tokens": 5, "stream_options": {"include_usage": True}}
    events = await shared_engine.stream(CHAT, body)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[-3]["choices"][0]["finish_reason"] == "length"
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["completion_tokens"] == 5
    assert all("usage" not in event for event in events[:-2])


async def test_a_stream_without_usage_asked_has_none(shared_engine):
    events = await shared_engine.stream(COMPLETIONS, {"prompt": "hi", "max_tokens": 3})
    assert all("usage" not in event for event in events[:-1])


async def test_streamed_choices_are_all_complete(shared_engine):
    events = await shared_engine.stream(COMPLETIONS, {"prompt": ["a", "b"], "n": 2, "max_tokens": 3})
    choices = [event["choices"][0] for event in events[:-1]]
    assert sorted(choice["index"] for choice in choices) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert sorted(choice["index"] for choice in choices if choice["finish_reason"]) == [0, 1, 2, 3]


async def test_the_first_chunk_comes_long_before_the_last(start_engine, instant):
    instant |= {"MOCK_TTFT_BASE_SECONDS": "0.05", "MOCK_DECODE_SECONDS_PER_TOKEN": "0.02"}
    engine = await start_engine(**instant)
    body = {"model": engine.model, "prompt": "hi", "max_tokens": 30, "stream": True}
    started = time.monotonic()
    async with engine.session.post(engine.url + COMPLETIONS, json=body) as reply:
        arrivals = [time.monotonic() - started async for line in reply.content if line.startswith(b"data: {")]
    assert len(arrivals) == 30
    assert 0.05 <= arrivals[0] < arrivals[-1] / 2
    assert 0.64 <= arrivals[-1] < 2


async def test_equal_seeds_and_order_give_equal_text(start_engine, instant):
    async def texts(*arguments: str) -> list[str]:
        engine = await start_engine(*arguments, **instant)
        return [(await engine.complete())["choices"][0]["text"] for _ in range(3)]

    first = await texts("--seed", "5")
    assert first == await texts("--seed", "5")
    assert first != await texts("--seed", "6")
    assert len(set(first)) == 3


async def test_a_request_seed_makes_the_reply_repeatable(shared_engine):
    first = await shared_engine.complete(seed=3)
    await shared_engine.complete()
    again = await shared_engine.complete(seed=3)
    assert first["choices"] == again["choices"]


async def test_the_second_of_two_requests_pays_for_the_overload(start_engine, instant):
    instant |= {"MOCK_TTFT_BASE_SECONDS": "0.3", "MOCK_OVERLOAD_PENALTY_SECONDS": "0.08"}
    engine = await start_engine(**instant)
    both = await asyncio.gather(*(engine.complete(text, max_tokens=1) for text in "ab"))
    assert sorted(reply["metrics"]["mock_overload"] for reply in both) == [0, 1]
    latencies = sorted(reply["metrics"]["mock_latency_seconds"] for reply in both)
    assert latencies[1] - latencies[0] == pytest.approx(0.08)
    alone = await engine.complete("a", max_tokens=1)
    assert alone["metrics"]["mock_overload"] == 0
    assert alone["metrics"]["time_to_first_token_seconds"] == pytest.approx(0.3)
    assert alone["metrics"]["mock_pod"] == "pod-a"


async def test_a_request_id_is_echoed(shared_engine):
    headers = {"X-Request-Id": "abc"}
    body = {"model": shared_engine.model, "prompt": "x", "max_tokens": 1}
    async with shared_engine.session.post(shared_engine.url + COMPLETIONS, json=body, headers=headers) as reply:
        assert reply.headers["x-request-id"] == "abc"
        assert (await reply.json())["id"] == "cmpl-abc"


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "days", "unit"],
        },
    },
}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_tool_that_the_request_insists_on_is_called(shared_engine, choice):
    reply = await shared_engine.chat(tools=[TOOL], tool_choice=choice)
    [call] = reply["choices"][0]["message"]["tool_calls"]
    assert (reply["choices"][0]["finish_reason"], call["function"]["name"]) == ("tool_calls", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "text", "days": 1, "unit": "C"}
    messages = [{"role": "user", "content": "hi"}]
    events = await shared_engine.stream(CHAT, {"messages": messages, "tools": [TOOL], "tool_choice": choice})
    deltas = [event["choices"][0]["delta"]["tool_calls"][0]["function"] for event in events[:-1]]
    assert deltas[0]["name"] == "weather"
    assert "".join(delta["arguments"] for delta in deltas) == call["function"]["arguments"]


async def test_tools_without_a_demand_are_answered_with_text(shared_engine):
    reply = await shared_engine.chat(tools=[TOOL], tool_choice="auto", max_tokens=3)
    assert "tool_calls" not in reply["choices"][0]["message"]


@pytest.mark.parametrize("choice", ["required", "sometimes", {"function": {"name": "other"}}, 5])
async def test_a_tool_choice_that_is_none_of_the_tools_is_400(shared_engine, choice):
    tools = [] if choice == "required" else [TOOL]
    body = {"model": shared_engine.model, "messages": [{"role": "user", "content": "x"}]}
    assert (await shared_engine.post(CHAT, {**body, "tools": tools, "tool_choice": choice}))[0] == 400

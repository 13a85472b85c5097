"""What a sequence says: modes, lengths, and ends."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.reply import Author, LengthHistogram, Wish, read_dataset
from simulator.tokens import PackedTokenizer

TOKENIZER = PackedTokenizer()
PROMPT = TOKENIZER.encode("what is a bridge")


def plan(mode: str = "canned", room: int = 1000, seed: int = 0, **more):
    wish = Wish(**{key: more.pop(key) for key in ("max_tokens", "min_tokens", "ignore_eos", "stop") if key in more})
    author = Author(tokenizer=TOKENIZER, pod="pod-a", mode=mode, **more)
    return author.plan(PROMPT, "m", wish, room, Random(seed))


def test_canned_names_pod_and_model_and_random_does_not():
    assert plan(max_tokens=20).text.startswith("pod-a serves m:")
    assert "pod-a" not in plan("random", max_tokens=20).text


def test_echo_repeats_the_prompt_and_ends_with_it():
    reply = plan("echo")
    assert (reply.text, reply.finish_reason, list(reply.tokens)) == ("what is a bridge", "stop", PROMPT)
    assert plan("echo", max_tokens=2).finish_reason == "length"


def test_a_dataset_answers_the_prompts_that_it_knows(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text('{"prompt": "what is a bridge", "response": "a way over water"}\n')
    responses = read_dataset(file, TOKENIZER)
    reply = plan("dataset", responses=responses)
    assert (reply.text, reply.finish_reason) == ("a way over water", "stop")
    assert plan("dataset").text.startswith("pod-a")
    file.write_text("{}\n")
    with pytest.raises(ValueError, match=r"answers\.jsonl:1"):
        read_dataset(file, TOKENIZER)


@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 2**32))
def test_a_reply_has_as_many_ids_as_pieces_and_stays_within_its_limits(max_tokens, room, ignore_eos, seed):
    reply = plan(max_tokens=max_tokens, room=room, ignore_eos=ignore_eos, seed=seed)
    assert len(reply.pieces) == len(reply.tokens) == min(max_tokens, room)
    assert TOKENIZER.decode(reply.tokens) == reply.text
    assert TOKENIZER.encode(reply.text) == list(reply.tokens)


def test_ignoring_the_end_fills_the_context():
    reply = plan(ignore_eos=True, room=700)
    assert (len(reply.pieces), reply.finish_reason) == (700, "length")


def test_natural_lengths_follow_the_histogram_and_the_least():
    lengths = LengthHistogram(lengths=(5, 50), weights=(1, 3))
    drawn = [len(plan(seed=seed, lengths=lengths).pieces) for seed in range(200)]
    assert set(drawn) == {5, 50}
    assert 110 < drawn.count(50) < 190
    assert len(plan(lengths=LengthHistogram(lengths=(5,), weights=(1,)), min_tokens=30).pieces) == 30


def test_a_stop_string_counts_only_after_the_least_length():
    assert plan("echo", stop=(" is",)).text == "what"
    assert plan("echo", stop=(" is",), min_tokens=3).text == "what is a bridge"

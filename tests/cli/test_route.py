"""`brixflow route explain` as a person types it, against a segment that lives."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.route import MEANINGS
from csrc.binding import Claim, Pod, SegmentWriter, Settings, Verdict
from local.settings import CHECKOUT

BODY = {"messages": [{"role": "user", "content": "x" * 400}]}


@pytest.fixture(scope="module")
def segment() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="brixflow-test-") as folder:
        path = Path(folder) / "segment"
        with SegmentWriter.open(path) as writer:
            pods = [
                Pod(f"u{n}", "default", f"pod-{n}", f"10.0.0.{n}:8000", True, labels={"n": str(n)}) for n in (1, 2, 3)
            ]
            settings = Settings(default_strategy="least-request")
            writer.publish({"llama": pods, "cold": []}, settings, claims={"asleep": Claim.SLEEPING})
            for number, usage in ((1, 0.5), (2, 0.25)):
                writer.set_gauges(f"u{number}", time.monotonic() + 3600, {"kv_cache": usage})
            yield path


def explain(segment: Path, *arguments: str, body: object = BODY) -> subprocess.CompletedProcess[str]:
    given = body if isinstance(body, str) else json.dumps(body)
    command = [sys.executable, "-m", "cli.main", "route", "explain", "--segment", str(segment), *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)


def test_candidates_scores_and_the_pick_are_printed(segment: Path) -> None:
    said = explain(segment, "--model", "llama", "--header", "Routing-Strategy: least-kv-cache:3,least-request:1")
    assert said.returncode == 0, said.stderr
    lines = [line for line in said.stdout.splitlines() if line.strip()]
    assert lines[0].strip() == "model llama, strategy least-kv-cache:3,least-request:1, prompt of about 100 tokens"
    assert lines[1].split() == ["pod", "address", "requests", "least-kv-cache", "75%", "least-request", "25%", "score"]
    rows = [line.split() for line in lines[3:6]]
    assert rows[0] == ["->", "pod-2", "10.0.0.2:8000", "0", "0.25", "0", "1.0000"]
    assert rows[1] == ["pod-1", "10.0.0.1:8000", "0", "0.5", "0", "0.2500"]
    assert rows[2] == ["pod-3", "10.0.0.3:8000", "0", "-", "0", "0.2500"]


def test_the_body_names_the_model_and_headers_choose(segment: Path) -> None:
    said = explain(segment, "--header", "external-filter: n=3", body={**BODY, "model": "llama"})
    assert [line.split()[1] for line in said.stdout.splitlines() if "->" in line] == ["pod-3"]
    assert "strategy least-request" in said.stdout
    assert "1 candidates" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "body", "words"),
    [
        (["--model", "ghost"], BODY, "400: the model does not exist"),
        (["--model", "cold"], BODY, "503: the model has no pod"),
        (["--model", "asleep"], BODY, "503: no pod serves the model: its ModelClaim"),
        (["--model", "llama", "--header", "routing-strategy: x"], BODY, "400: incorrect routing strategy"),
        (["--model", "llama", "--header", "external-filter: n=9"], BODY, "503: external-filter leaves no pod"),
        (["--model", "llama", "--header", "nonsense"], BODY, "is no header"),
        (["--model", "llama"], "[1]", "the body is no JSON object"),
        ([], "", "no model"),
    ],
)
def test_what_would_be_refused_is_said_in_a_line(segment: Path, arguments: list[str], body: object, words: str) -> None:
    said = explain(segment, *arguments, body=body)
    assert said.returncode == 1
    assert words in said.stderr
    assert "Traceback" not in said.stderr


def test_whatever_is_decided_has_words() -> None:
    assert MEANINGS.keys() == {verdict.name for verdict in Verdict}


def test_without_a_gateway_it_says_so(tmp_path: Path) -> None:
    said = explain(tmp_path / "none", "--model", "llama")
    assert (said.returncode, "is the gateway running?" in said.stderr) == (1, True)

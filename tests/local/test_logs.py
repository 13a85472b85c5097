"""Logs are bounded in size, whoever writes to them."""

from __future__ import annotations

from pathlib import Path

from local.supervisor.logs import last_lines, opened_log, rotate


def test_a_log_that_grew_too_large_is_put_aside_under_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "part.log"
    with opened_log(tmp_path, "part") as output:
        output.write(b"x" * 100)
        output.flush()
        assert rotate(path, limit_bytes=50)
        output.write(b"after\n")
        output.flush()
    assert path.read_bytes() == b"after\n"
    assert path.with_name("part.log.1").read_bytes() == b"x" * 100


def test_two_older_logs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    for text in ("1111", "2222", "3333"):
        path.write_text(text)
        assert rotate(path, limit_bytes=3)
    assert path.read_text() == ""
    assert path.with_name("part.log.1").read_text() == "3333"
    assert path.with_name("part.log.2").read_text() == "2222"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_small_or_missing_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    assert not rotate(path)
    path.write_text("short")
    assert not rotate(path)


def test_the_last_lines_are_the_last(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    assert last_lines(path, 3) == []
    path.write_text("".join(f"{number}\n" for number in range(20000)))
    assert last_lines(path, 2) == ["19998", "19999"]

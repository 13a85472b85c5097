"""How often engines are asked for their pages, and how a page in chunks is put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.page_client import unchunked
from gateway.scraping import Pace, period_of


def test_the_pause_grows_while_an_engine_idles_fails_or_is_slow() -> None:
    pace = Pace(0.2)
    assert [pace.after_page(0.001, idle=True) for _ in range(4)] == [0.4, 0.8, 1.0, 1.0]
    assert pace.after_page(0.001, idle=False) == 0.2
    assert pace.after_page(0.15, idle=False) == pytest.approx(0.6)
    assert pace.after_page(3, idle=False) == 1.0
    assert [pace.after_failure() for _ in range(4)] == [2.0, 4.0, 5.0, 5.0]
    assert pace.after_page(0.001, idle=False) == 0.2


@pytest.mark.parametrize(("engines", "seconds"), [(0, 0.2), (100, 0.2), (1000, 2.0), (10_000, 20.0)])
def test_many_engines_are_asked_more_seldom(engines: int, seconds: float) -> None:
    """At most a share of a core goes into it: 300 microseconds a page, 15 %."""
    assert period_of(engines, 0.2) == pytest.approx(seconds)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(0, 400))
def test_chunks_are_joined_or_waited_for(parts: list[bytes], cut: int) -> None:
    raw = b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert unchunked(b"head" + raw, 4) == b"".join(parts)
    if cut < len(raw) - 4:
        assert unchunked(raw[:cut], 0) is None

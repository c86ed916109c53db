"""Tables of results."""

from __future__ import annotations

from bench.common.report import table


def test_table() -> None:
    """Columns line up, and what was not measured is a dash."""
    assert table([{"a": 1, "bb": None}, {"a": 10.5, "bb": "x"}]) == "   a  bb\n   1   -\n10.5   x"

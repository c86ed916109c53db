"""The languages of the qwen3 engine."""

from __future__ import annotations

import re

from backends.qwen3.languages import NAMES, codes


def test_there_are_thirty() -> None:
    """Each with a primary subtag in lower case and a name of its own."""
    assert len(NAMES) == 30 == len(set(NAMES.values()))
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in NAMES)


def test_every_name_leads_back() -> None:
    """What the model writes is what it was told."""
    assert all(codes(name) == (code,) for code, name in NAMES.items())


def test_names_in_a_row() -> None:
    """Several languages keep their order; None and what is unknown are no language."""
    assert codes("Chinese, english") == ("zh", "en")
    assert codes("None") == () == codes("Klingon,")

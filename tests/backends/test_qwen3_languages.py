"""The languages of the qwen3 engine."""

from __future__ import annotations

import re

from backends.qwen3.languages import NAMES, codes


def test_there_are_thirty() -> None:
    """Each of 30 languages has a primary subtag in lower case and a unique name."""
    assert len(NAMES) == 30 == len(set(NAMES.values()))
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in NAMES)


def test_names_are_parsed() -> None:
    """Each name is parsed to its own subtag."""
    assert all(codes(name) == (code,) for code, name in NAMES.items())


def test_several_names() -> None:
    """Several languages keep their order; None and unknown names are left out."""
    assert codes("Chinese, english") == ("zh", "en")
    assert codes("None") == () == codes("Klingon,")

"""The languages of the qwen3 engine."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.languages import ALIASES, NAMES, codes, name_of
from backends.qwen3.options import Qwen3Options
from backends.qwen3.prompt import build_template
from tests.backends.test_qwen3_prompt import TOKENS


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


@pytest.mark.parametrize(("alias", "name"), [("tl", "Filipino"), ("cmn", "Chinese")])
def test_aliases(alias: str, name: str) -> None:
    """Clients may send `tl` and `cmn`; the prompt gets the model's name, and the model's name keeps its own subtag."""
    with closing(Qwen3Backend(Qwen3Options())) as backend:
        assert alias in (backend.languages or ())
    assert name_of(alias) == name
    assert codes(name) == (ALIASES[alias],)
    assert build_template(TOKENS, (), alias).tail == build_template(TOKENS, (), ALIASES[alias]).tail

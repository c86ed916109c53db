"""Language tags."""

from __future__ import annotations

import pytest

from protocol.errors import BadRequest
from protocol.languages import primary_subtag, require_supported


@pytest.mark.parametrize(
    ("tag", "primary"), [("auto", None), ("AUTO", None), ("en", "en"), ("EN-us", "en"), ("zh-Hant-TW", "zh")]
)
def test_primary_subtag(tag: str, primary: str | None) -> None:
    """A tag counts by its primary subtag, in lower case; `auto` leaves the choice."""
    assert primary_subtag(tag) == primary


@pytest.mark.parametrize(
    ("supported", "tag"), [(None, "xx"), ({"en"}, "en-GB"), ({"en"}, "EN"), ({"en"}, "auto"), ({"de", "en"}, "de")]
)
def test_supported_language(supported: set[str] | None, tag: str) -> None:
    """A language is taken where the engine has its primary subtag, or any."""
    require_supported(tag, None if supported is None else frozenset(supported))


def test_unsupported_language() -> None:
    """A language the engine lacks is refused by name, with what there is."""
    with pytest.raises(BadRequest, match=r"^language zh-CN is not supported: use auto or de, en$"):
        require_supported("zh-CN", frozenset({"en", "de"}))

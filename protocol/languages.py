"""Language tags as clients give them."""

from __future__ import annotations

import re

from protocol.errors import BadRequest

AUTO = "auto"
"""The language tag that leaves the choice to the engine."""

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
"""Shape of a BCP-47 tag (RFC 5646, section 2.1), without its registry."""


def primary_subtag(tag: str) -> str | None:
    """Primary subtag of a checked tag in lower case (`en-US` -> `en`); None for `auto`."""
    primary = tag.split("-", 1)[0].lower()
    return None if primary == AUTO else primary


def check_language(tag: str) -> str:
    """Return `tag` if it is `auto` or has the shape of a BCP-47 tag; `en_US`, as POSIX spells it, becomes `en-US`.

    Raises:
        ValueError: it is neither.
    """
    tag = tag.replace("_", "-")
    if not _LANGUAGE_TAG.fullmatch(tag):
        raise ValueError("must be auto or a BCP-47 tag such as en or zh-CN")
    return tag


def require_supported(tag: str, supported: frozenset[str] | None) -> None:
    """Refuse a tag that is neither `auto` nor among the `supported` primary subtags (None: any).

    Raises:
        BadRequest: the message names the tag, and the tags to use instead.
    """
    primary = primary_subtag(tag)
    if primary is not None and supported is not None and primary not in supported:
        raise BadRequest(f"language {tag} is not supported: use auto or {', '.join(sorted(supported))}")

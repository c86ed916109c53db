"""Finds API keys and tokens in a request: in headers, WebSocket subprotocols and the query. Pure; any thread."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from urllib.parse import parse_qsl

KEY_SUBPROTOCOLS = ("openai-insecure-api-key.", "stt-token.")
"""Prefixes of subprotocols that carry a key, in lower case: browsers cannot set headers on a WebSocket."""
KEY_FOLLOWS = frozenset({"token", "bearer"})
"""Subprotocols after which a key follows as the next one."""
_SCHEMES = frozenset({"bearer", "token"})


def presented_keys(authorization: str, query: str, subprotocols: Sequence[str], *, in_query: bool) -> tuple[str, ...]:
    """Every key that a request presents. They are secrets: never log them, never send them back.

    Args:
        authorization: the header of that name; empty without one.
        query: undecoded, without the question mark.
        subprotocols: those that a WebSocket's client offers, in its order.
        in_query: whether `api_key` in the query counts.
    """
    keys = [*_authorization_keys(authorization), *_subprotocol_keys(subprotocols)]
    if in_query:
        keys += [value for name, value in parse_qsl(query) if name == "api_key"]
    return tuple(filter(None, keys))


def without_keys(subprotocols: Sequence[str]) -> list[str]:
    """The subprotocols that neither are nor hold a key, so that one of them may be chosen."""
    return [each for index, each in enumerate(subprotocols) if not _carries_key(subprotocols, index)]


def _carries_key(subprotocols: Sequence[str], index: int) -> bool:
    follows = index > 0 and subprotocols[index - 1].lower() in KEY_FOLLOWS
    return follows or subprotocols[index].lower().startswith(KEY_SUBPROTOCOLS)


def _authorization_keys(header: str) -> Sequence[str]:
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() in _SCHEMES:
        return (value,)
    return _basic_keys(value) if scheme.lower() == "basic" else ()


def _basic_keys(value: str) -> Sequence[str]:
    """The password, and the user's name where the password is empty (RFC 7617)."""
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ()
    return (password or user,)


def _subprotocol_keys(subprotocols: Sequence[str]) -> Sequence[str]:
    keys = []
    for index, each in enumerate(subprotocols):
        if _carries_key(subprotocols, index):
            prefix = next((prefix for prefix in KEY_SUBPROTOCOLS if each.lower().startswith(prefix)), "")
            keys.append(each[len(prefix) :])
    return keys

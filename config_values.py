"""How the values of settings are read, and how one that cannot be used is reported. Pure."""

from __future__ import annotations

import json
import os
import re

from observability.masking import MASK

PREFIX = "STT_"
"""Of the environment variables."""
SECRETS = frozenset({"api_keys", "token_secret"})
"""Settings whose values are never shown."""


class SettingsRefused(Exception):
    """A setting is out of range; the text is one plain sentence that names it."""


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_by_commas(value: object) -> object:
    """Parts of a text between commas, without blanks around them; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part for part in (each.strip() for each in value.split(",")) if part)


def as_prefix(value: str) -> str:
    """A path with a slash at its beginning and none at its end; empty for `/`.

    Raises:
        ValueError: it is no path.
    """
    stripped = value.strip("/")
    if stripped and not re.fullmatch(r"[\w.~/-]+", stripped):
        raise ValueError("it must be a path, such as /speech")
    return f"/{stripped}" if stripped else ""


def as_json_object(value: object) -> object:
    """A text read as a JSON object; what is no text is left as it is.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise ValueError('it is not a JSON object such as {"dtype": "half"}')  # noqa: TRY004 - pydantic reads ValueError
    return parsed


def refusal_sentence(setting: str, value: object, reason: str) -> str:
    """Why a setting cannot be used, in one plain sentence that names it."""
    name = f"{PREFIX}{setting}".upper()
    shown = MASK if setting in SECRETS else value
    return f"{name}={shown} cannot be used: {reason[:1].lower()}{reason[1:].rstrip('.')}."

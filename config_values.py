"""Reads the values of settings, and reports those that cannot be used. Pure."""

from __future__ import annotations

import json
import os
import re

from observability.masking import MASK

PREFIX = "STT_"
"""Prefix of the environment variables."""
SECRETS = frozenset({"api_keys", "token_secret"})
"""Settings whose values are never shown."""


class SettingsRefused(Exception):
    """A setting cannot be used. The text is one sentence that names it."""


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_by_commas(value: object) -> object:
    """Split a text at commas, and strip blanks. A value that is not a text is unchanged."""
    if not isinstance(value, str):
        return value
    return tuple(part for part in (each.strip() for each in value.split(",")) if part)


def as_prefix(value: str) -> str:
    """Normalise a path to a slash at its beginning and none at its end; `/` becomes empty.

    Raises:
        ValueError: it is not a path.
    """
    stripped = value.strip("/")
    if stripped and not re.fullmatch(r"[\w.~/-]+", stripped):
        raise ValueError("it must be a path, such as /speech")
    return f"/{stripped}" if stripped else ""


def as_json_object(value: object) -> object:
    """Parse a text as a JSON object. A value that is not a text is unchanged.

    Raises:
        ValueError: it is not a JSON object.
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
    """One sentence that names a setting, and says why it cannot be used."""
    name = f"{PREFIX}{setting}".upper()
    shown = MASK if setting in SECRETS else value
    return f"{name}={shown} cannot be used: {reason[:1].lower()}{reason[1:].rstrip('.')}."

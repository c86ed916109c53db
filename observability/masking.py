"""Masks secrets in logged settings."""

from __future__ import annotations

import json
import re
from contextlib import suppress

MASK = "***"
_SECRET_NAME = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")

Json = dict[str, "Json"] | list["Json"] | str | int | float | None


def masked(name: str, value: Json) -> Json:
    """Mask `value` if its name is a secret's, fields of JSON with such names, and credentials in URLs."""
    match value:
        case dict():
            return {key: masked(key, each) for key, each in value.items()}
        case list():
            return [masked(name, each) for each in value]
        case str() if value.startswith("{"):
            with suppress(ValueError):
                return masked(name, json.loads(value))
    if not isinstance(value, str):
        return value
    return MASK if value and _SECRET_NAME.search(name) else _URL_CREDENTIALS.sub(f"{MASK}@", value)

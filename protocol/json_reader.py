"""Reads a client's JSON so strictly that everything read can be sent as JSON again. Pure; any thread."""

from __future__ import annotations

import math

from pydantic_core import from_json


def read_json(text: str | bytes) -> object:
    """Parse JSON (RFC 8259).

    Raises:
        ValueError: it is no JSON, is nested more than 200 deep, or has a lone surrogate or a number that is not finite.
    """
    value: object = from_json(text, allow_inf_nan=False)
    if not _is_finite(value):
        raise ValueError("a number is too large")
    return value


def _is_finite(value: object) -> bool:
    match value:
        case float():
            return math.isfinite(value)  # `1e999` is infinite
        case dict():
            return all(map(_is_finite, value.values()))
        case list():
            return all(map(_is_finite, value))
        case _:
            return True

"""Secrets in what is logged."""

from __future__ import annotations

from observability.masking import Json, masked


def test_secrets_are_masked_wherever_they_stand() -> None:
    """By the name, inside objects, lists and JSON, and in URLs; numbers and plain values are shown."""
    value: Json = {
        "api_key": "s3cret",
        "keys": ["s3cret"],
        "max_tokens": 512,
        "engine": '{"hf_token": "s3cret", "dtype": "auto"}',
        "proxy": "http://user:s3cret@proxy:80/",
        "empty_token": "",
    }
    assert masked("settings", value) == {
        "api_key": "***",
        "keys": ["***"],
        "max_tokens": 512,
        "engine": {"hf_token": "***", "dtype": "auto"},
        "proxy": "http://***@proxy:80/",
        "empty_token": "",
    }

"""Tokens that stand for a key for some minutes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from protocol.access_tokens import TokenClaims, derived_secret, is_signed, read_claims, sign

CLAIMS = TokenClaims("phone", 1_800_000_000, {"type": "transcription"})
SECRET = derived_secret("a secret of some length")


def test_a_token_says_what_was_signed() -> None:
    """Its claims come back, and only the secret that signed it confirms them."""
    token = sign(CLAIMS, SECRET)

    assert read_claims(token) == CLAIMS
    assert is_signed(token, SECRET)
    assert not is_signed(token, derived_secret("another secret"))


def test_a_token_fits_into_a_subprotocol() -> None:
    """It has the characters of an HTTP token only (RFC 9110, section 5.6.2), and OpenAI's prefix."""
    assert re.fullmatch(r"ek_[A-Za-z0-9_.-]+", sign(CLAIMS, SECRET))


@given(st.integers(3, 200), st.characters(codec="ascii"))
def test_a_token_that_was_changed_is_worth_nothing(position: int, character: str) -> None:
    """One other character anywhere, and the signature fails or it is no token."""
    token = sign(CLAIMS, SECRET)
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]

    # Unused bits of the last character of base64 mean nothing.
    assert (
        changed == token or position == len(token) - 1 or read_claims(changed) is None or not is_signed(changed, SECRET)
    )


@given(st.text())
def test_what_is_no_token_is_none(text: str) -> None:
    """Any other text has no claims."""
    assert read_claims(text) is None
    assert read_claims("ek_" + text) is None
    assert not is_signed(text, SECRET)

"""Short-lived tokens, which pages in browsers hold instead of a key. Pure: no clock, no I/O; any thread.

A token is `ek_`, a JSON object in base64url without padding, a dot, and the HMAC-SHA-256 of all before the dot. Nothing
is stored, so every server that knows the secret accepts it. OpenAI's JavaScript client allows browsers only keys that
begin with `ek_`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

PREFIX = "ek_"
MIN_SECONDS, DEFAULT_SECONDS, MAX_SECONDS = 10, 600, 7200
"""How long a token may be valid; OpenAI's bounds."""
_DERIVATION = b"realtime-stt-ws token 1"


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The content of a token."""

    client: str
    """Name of the key that it was issued for."""
    expires: int
    """Unix seconds."""
    session: dict[str, Any]
    """The session that it was issued for, in the dialect's own format; empty: any."""


def derived_secret(secret: str) -> bytes:
    """The signing secret (32 bytes) that belongs to a key or to STT_TOKEN_SECRET."""
    return hmac.digest(secret.encode(), _DERIVATION, hashlib.sha256)


def sign(claims: TokenClaims, secret: bytes) -> str:
    """The token for `claims`; `secret` comes from `derived_secret`."""
    fields: dict[str, Any] = {"client": claims.client, "expires": claims.expires}
    if claims.session:
        fields["session"] = claims.session
    payload = _encoded(json.dumps(fields, separators=(",", ":")).encode())
    signed = f"{PREFIX}{payload}"
    return f"{signed}.{_encoded(_signature(signed, secret))}"


def read_claims(token: str) -> TokenClaims | None:
    """Read a token without checking its signature; None: it is not a token."""
    if not token.startswith(PREFIX):
        return None
    try:
        fields = json.loads(_decoded(token.removeprefix(PREFIX).partition(".")[0]))
        return TokenClaims(str(fields["client"]), int(fields["expires"]), dict(fields.get("session", {})))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def is_signed(token: str, secret: bytes) -> bool:
    """Whether `secret` signed the token; takes the same time for every wrong signature."""
    signed, _, signature = token.rpartition(".")
    try:
        return hmac.compare_digest(_decoded(signature), _signature(signed, secret))
    except ValueError:
        return False


def _signature(signed: str, secret: bytes) -> bytes:
    return hmac.digest(secret, signed.encode(), hashlib.sha256)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error

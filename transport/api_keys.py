"""The API keys of a server and the tokens they issue. Of a key only digests are kept."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from starlette.types import Scope

from protocol.access_tokens import TokenClaims, derived_secret, is_signed, read_claims, sign
from protocol.errors import TokenForbidden, Unauthorized

MIN_KEY_CHARACTERS = 16
"""Least length of a key. A token is signed with a secret derived from its key, so who holds a token can guess keys
offline."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Form of a key's name, which appears in labels of metrics and in the log."""
_KEY = re.compile(r"[!-~]+")
_FILE_PREFIX = "@"
_WATCH_SECONDS = 2.0
"""Seconds between two checks of the file."""


CALLER = "stt.caller"
"""Key of the ASGI scope under which the `Caller` is kept."""


class KeysRefused(Exception):
    """The keys cannot be used. The text says why, in lower case and without any key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    name: str = ""
    """Name of the key; empty where the server has no keys."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The session that the token was issued for; empty: any."""
    has_token: bool = False
    """Whether the caller used a token in place of the key."""


def caller_of(scope: Scope) -> Caller:
    """Who sent the request, as `Authentication` found out."""
    caller: Caller = scope.get(CALLER) or Caller()
    return caller


@dataclass(frozen=True, slots=True)
class _Key:
    name: str
    digest: bytes
    secret: bytes
    """Secret with which its tokens are signed."""


class Keyring:
    """The keys, from the setting or from a file that is read again when it changes. Used on the event loop."""

    def __init__(self, setting: str, token_secret: str = "") -> None:
        """`setting`: STT_API_KEYS; `token_secret`: STT_TOKEN_SECRET. Reads the file, if there is one.

        Raises:
            KeysRefused: they cannot be used.
        """
        self._path = Path(setting.removeprefix(_FILE_PREFIX)).expanduser() if setting.startswith(_FILE_PREFIX) else None
        self._state = _state(self._path)
        self._keys = _parse(setting) if self._path is None else _read(self._path)
        if not self._keys and not token_secret:
            # A server without keys gives tokens too, for clients that insist on one.
            token_secret = secrets.token_hex()
        self._token_secret = derived_secret(token_secret) if token_secret else None

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    @property
    def names(self) -> frozenset[str]:
        """The keys' names."""
        return frozenset(key.name for key in self._keys)

    def identify(self, presented: Sequence[str], now: float) -> Caller:
        """Find who sent these keys or tokens at `now`, Unix seconds. A wrong key takes as long as a right one.

        Raises:
            Unauthorized: none of them is known.
        """
        callers = [caller for each in presented if (caller := self._caller(each, now)) is not None]
        if callers:
            return callers[0]
        if not self.required:
            return Caller()
        if not presented:
            raise Unauthorized("an API key is required: send it as `Authorization: Bearer KEY`")
        raise Unauthorized("the API key is not valid, or the token is not valid any more")

    def issue(self, caller: Caller, seconds: int, session: Mapping[str, Any], now: float) -> tuple[str, int]:
        """A token for `caller`, and when it expires, in Unix seconds.

        Raises:
            TokenForbidden: the caller has only a token itself.
        """
        if caller.has_token:
            raise TokenForbidden
        claims = TokenClaims(caller.name, int(now) + seconds, dict(session))
        secret = self._token_secret or next(key.secret for key in self._keys if key.name == caller.name)
        return sign(claims, secret), claims.expires

    async def watch(self) -> None:
        """Read the file again when it changes, until cancelled; if its keys cannot be used, the old ones stay."""
        while self._path is not None:
            await asyncio.sleep(_WATCH_SECONDS)
            state = await asyncio.to_thread(_state, self._path)
            if state == self._state:
                continue
            self._state = state
            try:
                self._keys = await asyncio.to_thread(_read, self._path)
            except KeysRefused as refusal:
                structlog.get_logger().warning("api_keys_refused", reason=str(refusal), kept=sorted(self.names))
            else:
                structlog.get_logger().info("api_keys_read", names=sorted(self.names))

    def _caller(self, presented: str, now: float) -> Caller | None:
        claims = read_claims(presented)
        if claims is not None:
            return self._token_caller(presented, claims, now)
        digest = _digest(presented)
        matches = [key.name for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return Caller(matches[0]) if matches else None

    def _token_caller(self, token: str, claims: TokenClaims, now: float) -> Caller | None:
        known = [key.secret for key in self._keys if key.name == claims.client]
        if self._token_secret is not None and (known or not self.required):
            known = [self._token_secret]
        if claims.expires <= now or not any(is_signed(token, secret) for secret in known):
            return None
        return Caller(claims.client if self.required else "", claims.session, has_token=True)


def _read(path: Path) -> tuple[_Key, ...]:
    try:
        keys = _parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KeysRefused(f"the file cannot be read: {reason}") from error
    if not keys:
        raise KeysRefused("the file has no key")
    return keys


def _parse(text: str) -> tuple[_Key, ...]:
    """Keys as `name=key`, separated by commas or line breaks; `#` begins a comment line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    keys: list[_Key] = []
    for number, part in enumerate(filter(None, (part.strip() for line in lines for part in line.split(","))), 1):
        name, separator, key = part.partition("=")
        if not separator or not _NAME.fullmatch(name.strip()):
            raise KeysRefused(f"number {number} is not name=key, with a name of letters, digits, `_`, `.` and `-`")
        key = key.strip()
        if len(key) < MIN_KEY_CHARACTERS or not _KEY.fullmatch(key):
            raise KeysRefused(
                f"the key of {name.strip()} needs {MIN_KEY_CHARACTERS} printable ASCII characters or more"
            )
        keys.append(_Key(name.strip(), _digest(key), derived_secret(key)))
    if len({key.digest for key in keys}) < len(keys):
        raise KeysRefused("one key is there twice")
    return tuple(keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _state(path: Path | None) -> tuple[int, int, int] | None:
    """Values that change when the file is written; None: there is no file."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

"""`POST /v1/realtime/client_secrets`: a token for a browser, with the session that it opens. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.access_tokens import DEFAULT_SECONDS, MAX_SECONDS, MIN_SECONDS
from protocol.dialect import ServerInfo
from protocol.openai_errors import BadParameter
from protocol.openai_session import TranscriptionSession

MAX_SESSION_CHARACTERS = 4_096
"""Longest session as JSON. The token contains it, and browsers send the token in a header, of at most 8 KiB in
servers."""


class _ExpiresAfter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=MIN_SECONDS, le=MAX_SECONDS)] = DEFAULT_SECONDS


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    expires_after: _ExpiresAfter = _ExpiresAfter()
    session: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class SecretRequest:
    """A request for a client secret."""

    seconds: int
    session: dict[str, Any]
    """The session as the client sent it."""
    shown: dict[str, Any]
    """The session as it will be."""


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """The answer."""

    value: str
    expires_at: int
    """Unix seconds."""
    session: dict[str, Any]

    def to_json(self) -> str:
        """The body."""
        fields = {"value": self.value, "expires_at": self.expires_at, "session": self.session}
        return json.dumps(fields, ensure_ascii=False)


def read_secret_request(body: bytes, server: ServerInfo, session_id: str) -> SecretRequest:
    """Check the body, which may be empty.

    Raises:
        BadParameter: a field cannot be used.
    """
    try:
        read = _Body.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise BadParameter(f"{path}: {first['msg']}" if path else first["msg"], path, "invalid_value") from error
    if len(json.dumps(read.session)) > MAX_SESSION_CHARACTERS:
        raise BadParameter(f"session: at most {MAX_SESSION_CHARACTERS} characters are allowed", "session")
    session = TranscriptionSession(server)
    session.update(read.session)
    return SecretRequest(read.expires_after.seconds, read.session, session.shown(session_id))

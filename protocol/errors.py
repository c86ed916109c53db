"""Errors that a peer is told about: each knows its WebSocket close code and its HTTP status.

The text of such an error is a fact about the peer's own request. Exception texts and internals go to the log only.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar


class CloseCode(IntEnum):
    """Close codes this server sends (RFC 6455, section 7.4.1, and the IANA registry)."""

    NORMAL = 1000
    """The session is finished: the answer to `finish`."""
    POLICY = 1008
    """Bad parameters, bad message, overflow, idle, or a client that does not read."""
    TOO_BIG = 1009
    """A message over 256 KiB, or over 24 MiB on `/v1/realtime`."""
    INTERNAL = 1011
    """The server failed; the log has the connection's id. Or a ping was not answered for 20 s."""
    RESTARTING = 1012
    """The server is restarting: connect again."""
    TRY_LATER = 1013
    """The server is not ready yet, full, or too slow for live audio."""


class RefusalReason(StrEnum):
    """Why a handshake or an upload was refused; a metric's label."""

    BAD_REQUEST = "bad_request"
    KEY = "key"
    KEY_LIMIT = "key_limit"
    ORIGIN = "origin"
    PATH = "path"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    INTERNAL = "internal"
    STORAGE = "storage"
    NOT_READY = "not_ready"
    FULL = "full"
    SATURATED = "saturated"
    DRAINING = "draining"


class ServiceError(Exception):
    """An error that is reported to the peer; `str()` is the message."""

    close_code: ClassVar[CloseCode]
    http_status: ClassVar[int]
    reason: RefusalReason
    """The metric's label of a refusal."""


class BadRequest(ServiceError):
    """The peer asked for something this server does not do, or broke a rule."""

    close_code = CloseCode.POLICY
    http_status = 422
    reason = RefusalReason.BAD_REQUEST


class Forbidden(ServiceError):
    """A browser page of another origin."""

    close_code = CloseCode.POLICY
    http_status = 403
    reason = RefusalReason.ORIGIN

    def __init__(self) -> None:
        super().__init__("origin is not allowed: the server's STT_ALLOWED_ORIGINS names those that are")


class Idle(BadRequest):
    """The peer sent nothing for too long."""


class Unauthorized(ServiceError):
    """No API key, or none that this server knows; the text never has the key."""

    close_code = CloseCode.POLICY
    http_status = 401
    reason = RefusalReason.KEY


class TokenForbidden(ServiceError):
    """A token was used where a key is needed."""

    close_code = CloseCode.POLICY
    http_status = 403
    reason = RefusalReason.KEY

    def __init__(self) -> None:
        super().__init__("a token cannot issue tokens: use the API key")


class KeyLimitReached(ServiceError):
    """All sessions that one API key may have open are open."""

    close_code = CloseCode.TRY_LATER
    http_status = 429
    reason = RefusalReason.KEY_LIMIT


class NotFound(ServiceError):
    """A path that this server does not serve."""

    close_code = CloseCode.POLICY
    http_status = 404
    reason = RefusalReason.PATH


class PayloadTooLarge(ServiceError):
    """A message or an upload over its limit."""

    close_code = CloseCode.TOO_BIG
    http_status = 413
    reason = RefusalReason.TOO_LARGE


class ClientTooSlow(ServiceError):
    """The peer stopped sending what it announced, or stopped reading."""

    close_code = CloseCode.POLICY
    http_status = 408
    reason = RefusalReason.TOO_SLOW


class InternalError(ServiceError):
    """The server failed."""

    close_code = CloseCode.INTERNAL
    http_status = 500
    reason = RefusalReason.INTERNAL

    def __init__(self) -> None:
        super().__init__("internal error")


class ServerRestarting(ServiceError):
    """The server is going away. Another server, or this one after its restart, can serve."""

    close_code = CloseCode.RESTARTING
    http_status = 503
    reason = RefusalReason.DRAINING

    def __init__(self) -> None:
        super().__init__("server restarting")


class ServerOverloaded(ServiceError):
    """The engine is too slow for live audio, and too much was dropped. Another server may serve."""

    close_code = CloseCode.TRY_LATER
    http_status = 503
    reason = RefusalReason.SATURATED


class ServerBusy(ServiceError):
    """Not ready, or full: the same request may succeed later."""

    close_code = CloseCode.TRY_LATER
    http_status = 503

    def __init__(self, message: str, reason: RefusalReason) -> None:
        super().__init__(message)
        self.reason = reason


class StorageUnavailable(ServiceError):
    """No temporary folder can take the upload: none can be written, or the disk is full."""

    close_code = CloseCode.TRY_LATER
    http_status = 507
    reason = RefusalReason.STORAGE

    def __init__(self) -> None:
        super().__init__("the server has no disk space for this upload; one under 1 MiB needs none")

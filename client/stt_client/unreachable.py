"""Explains in one sentence why no server could be reached."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from websockets.exceptions import InvalidProxy

from stt_client.errors import ServerUnreachable

_PLAIN_TEXT = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST"})
"""OpenSSL's reasons for an answer that is not TLS."""


class NeverReachable(ServerUnreachable):
    """Another attempt would fail in the same way."""


class ConnectionBroken(ServerUnreachable):
    """A connection to a server broke."""


def proxy_unusable(error: BaseException) -> NeverReachable:
    """The caller's error if the environment names a proxy that cannot be used."""
    return NeverReachable(f"the proxy that the environment names cannot be used: {error}")


def unreachable(url: str, error: BaseException) -> ServerUnreachable:
    """The caller's error for an attempt on `url` (query and all) that failed with `error`.

    It is a `NeverReachable` if trying again makes no sense.
    """
    address = url.partition("?")[0]
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ImportError | InvalidProxy):  # SOCKS needs a package
            return proxy_unusable(cause)
        if isinstance(cause, ssl.SSLError) and (reason := _lasting(address, cause)):
            return NeverReachable(reason)
    reasons = [_words(cause) for cause in causes if isinstance(cause, OSError)]
    return ServerUnreachable(f"no server answers at {address} ({reasons[-1] if reasons else _words(error)})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, down to the first one."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause.__context__


def _lasting(address: str, cause: ssl.SSLError) -> str | None:
    """The sentence about a permanent failure of TLS; None: it may be temporary."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {address} is not trusted ({cause.verify_message}): if its authority is your own, "
            "name the authority's certificate in the variable SSL_CERT_FILE"
        )
    if cause.reason in _PLAIN_TEXT:
        return f"the server at {address} speaks no TLS: write http:// instead of https://"
    return None


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__

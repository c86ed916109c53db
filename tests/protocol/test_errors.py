"""What a peer is told about an error."""

from __future__ import annotations

import pytest

from protocol.errors import (
    BadRequest,
    ClientTooSlow,
    CloseCode,
    Forbidden,
    InternalError,
    NotFound,
    PayloadTooLarge,
    RefusalReason,
    ServerBusy,
    ServerRestarting,
    ServiceError,
    StorageUnavailable,
)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BadRequest("no"), 1008, 422),
        (Forbidden(), 1008, 403),
        (NotFound("no"), 1008, 404),
        (PayloadTooLarge("no"), 1009, 413),
        (ClientTooSlow("no"), 1008, 408),
        (InternalError(), 1011, 500),
        (ServerRestarting(), 1012, 503),
        (ServerBusy("no", RefusalReason.FULL), 1013, 503),
        (StorageUnavailable(), 1013, 507),
    ],
)
def test_errors(error: ServiceError, code: int, status: int) -> None:
    """Each error knows its close code, its HTTP status, and its text."""
    assert (CloseCode(code), status) == (error.close_code, error.http_status)
    assert str(error)

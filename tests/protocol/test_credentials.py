"""Where a request may carry its key."""

from __future__ import annotations

import base64

import pytest

from protocol.credentials import presented_keys, without_keys

BASIC = base64.b64encode(b"anybody:KEY").decode()
BASIC_USER = base64.b64encode(b"KEY:").decode()


@pytest.mark.parametrize(
    ("authorization", "subprotocols"),
    [
        ("Bearer KEY", ()),
        ("bearer  KEY ", ()),
        ("Token KEY", ()),
        (f"Basic {BASIC}", ()),
        (f"basic {BASIC_USER}", ()),
        ("", ("realtime", "openai-insecure-api-key.KEY", "openai-organization.X")),
        ("", ("token", "KEY")),
        ("", ("bearer", "KEY", "x-deepgram-session-id", "1")),
        ("", ("stt", "stt-token.KEY")),
        ("", ("realtime", "OpenAI-Insecure-API-Key.KEY")),
        ("", ("stt", "STT-Token.KEY")),
    ],
)
def test_a_key_is_found_wherever_clients_put_it(authorization: str, subprotocols: tuple[str, ...]) -> None:
    """Each known form gives the key, and no form is chosen as the subprotocol that carries it."""
    assert presented_keys(authorization, "", subprotocols, in_query=False) == ("KEY",)
    assert not any("KEY" in each for each in without_keys(subprotocols))
    assert without_keys(subprotocols)[:1] == list(subprotocols[:1])


@pytest.mark.parametrize("header", ["", "Bearer", "Basic !", "Basic /w==", "Digest KEY", "KEY"])
def test_a_header_that_carries_no_key_gives_none(header: str) -> None:
    """Neither another scheme nor a broken one is taken for a key."""
    assert presented_keys(header, "", (), in_query=False) == ()


def test_the_query_counts_where_the_server_says_so() -> None:
    """`api_key` in the query is a key only with the setting for it."""
    assert presented_keys("", "model=x&api_key=KEY", (), in_query=True) == ("KEY",)
    assert presented_keys("", "model=x&api_key=KEY", (), in_query=False) == ()

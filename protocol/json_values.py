"""Values of a client's JSON that the server sends back. Pure; any thread."""

from __future__ import annotations

import json


def is_sendable(value: object) -> bool:
    """Whether a value that `json.loads` returned can be sent as JSON (RFC 8259) in UTF-8 again.

    `json.loads` also takes `NaN`, numbers that become infinite, and escapes of lone surrogates.
    """
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True

"""HTTP requests of the tests."""

from __future__ import annotations

import httpx

from tests.patience import PATIENCE_SECONDS

HTTP = httpx.Client(timeout=PATIENCE_SECONDS, verify=False, limits=httpx.Limits(max_keepalive_connections=0))  # noqa: S501 - no TLS
"""One client, since a TLS context for each request costs 50 ms of CPU.
Each request has a connection of its own."""

"""HTTP requests of the tests."""

from __future__ import annotations

import httpx

HTTP = httpx.Client(timeout=60, verify=False, limits=httpx.Limits(max_keepalive_connections=0))  # noqa: S501 - no TLS
"""Patient, so that a busy machine fails no test. One client, since a TLS context for each request costs 50 ms of CPU. Each
request has a connection of its own."""

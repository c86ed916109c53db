"""The headers X-Forwarded-*, which count only if they come from a trusted proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Scope

from transport.http_common import peer_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """Reads X-Forwarded-Host and X-Forwarded-For. Pure; any thread."""

    def __init__(self, networks: Sequence[Network]) -> None:
        """`networks`: the proxies' addresses."""
        self._networks = tuple(networks)

    def original(self, scope: Scope) -> Scope:
        """The request as the proxy received it: its Host and its client. Unchanged if no trusted proxy sent it."""
        if not (self._networks and self._trusts(peer_address(scope))):
            return scope
        headers = Headers(scope=scope)
        host, client = _last(headers.getlist("x-forwarded-host")), self._client(headers)
        changed = dict(scope)
        if host:
            changed["headers"] = list(scope["headers"])
            MutableHeaders(scope=changed)["host"] = host
        if client:
            changed["client"] = (client, 0)
        return changed

    def _client(self, headers: Headers) -> str:
        """The last address that is not a trusted proxy's. Addresses before it may be invented by the client."""
        passed = _parts(headers.getlist("x-forwarded-for"))
        return next((each for each in reversed(passed) if not self._trusts(each)), "")

    def _trusts(self, address: str) -> bool:
        try:
            return any(ipaddress.ip_address(address) in network for network in self._networks)
        except ValueError:
            return False


def _last(values: Sequence[str]) -> str:
    """The last value: a proxy appends its own."""
    parts = _parts(values)
    return parts[-1] if parts else ""


def _parts(values: Sequence[str]) -> list[str]:
    return [part.strip() for part in ",".join(values).split(",") if part.strip()]

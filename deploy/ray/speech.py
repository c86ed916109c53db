"""Replicas of the server under Ray Serve, behind its HAProxy. docs/ray-serve.md says how to start them."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve

from app import create_app
from config import load_settings


def server() -> FastAPI:
    """The server of one replica: built there, for it holds an engine."""
    return create_app()


@serve.deployment(
    num_replicas=2,
    # Beyond it Ray would let handshakes wait without an answer; the server refuses them at once.
    max_ongoing_requests=load_settings().max_sessions + load_settings().http_uploads + 16,
)
@serve.ingress(server)
class Speech:
    """One server with its own engine; Ray runs several."""


application = Speech.bind()

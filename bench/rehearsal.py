"""The server with a scripted qwen3 model of dummy weights, which says of its own time where it goes. Linux only.

`uvicorn --factory bench.rehearsal:build`; `GET /bench/engine` returns what happened since it was last asked (see
`bench.notes`).
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from app import create_app
from backends import registry
from backends.qwen3 import preflight
from backends.qwen3.backend import Qwen3Backend
from bench.notes import Notes
from bench.scripted import ScriptedModel


def build() -> FastAPI:
    """The server; called in a process of its own."""
    notes = Notes()

    def backend(options: registry.BackendOptions) -> Qwen3Backend:
        return Qwen3Backend(replace(options.qwen3, load_format="dummy"), ScriptedModel, notes.note)

    registry.BACKENDS = {"qwen3": registry.BackendSpec(backend, preflight.refusal)}
    made = create_app()
    made.add_api_route("/bench/engine", notes.take)
    return made

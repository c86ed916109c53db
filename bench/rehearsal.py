"""The server with a scripted qwen3 model of dummy weights, which says of its own time where it goes. Linux only.

`uvicorn bench.rehearsal:app`; `GET /bench/engine` returns what happened since it was last asked (see `bench.notes`).
Importing it changes which backends there are: for a server's own process.
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import FastAPI

from app import create_app
from backends import registry
from backends.qwen3 import machine
from backends.qwen3.backend import Qwen3Backend
from bench.notes import Notes
from bench.scripted import ScriptedModel


def _build() -> FastAPI:
    notes = Notes()

    def backend(options: registry.BackendOptions) -> Qwen3Backend:
        return Qwen3Backend(replace(options.qwen3, load_format="dummy"), ScriptedModel, notes.note)

    registry.BACKENDS = {"qwen3": registry.BackendSpec(backend, machine.refusal)}
    made = create_app()
    made.add_api_route("/bench/engine", notes.take)
    return made


app = _build()

"""The server with a scripted qwen3 model of dummy weights; GET /bench/decodes returns the times of its decodes.

Run by `uvicorn --factory bench.engine.scripted_server:build`.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from fastapi import FastAPI

from app import create_app
from backends import registry
from backends.qwen3 import preflight
from backends.qwen3.backend import Qwen3Backend
from backends.qwen3.stats import CompletedDecode
from bench.engine.scripted_model import ScriptedModel


def build() -> FastAPI:
    """The application, in a process of its own."""
    decodes: list[CompletedDecode] = []  # appended to by the engine's thread, emptied by the event loop

    async def take_decodes() -> list[dict[str, object]]:
        taken = decodes[:]
        del decodes[: len(taken)]
        return [
            {
                "purpose": each.purpose.name.lower(),
                **asdict(each.timing),
                "prompt_tokens": each.output.prompt_tokens,
                "cached_tokens": each.output.cached_tokens,
                "text_tokens": len(each.output.tokens),
            }
            for each in taken
        ]

    def backend(options: registry.BackendOptions) -> Qwen3Backend:
        return Qwen3Backend(replace(options.qwen3, load_format="dummy"), ScriptedModel, decodes.append)

    registry.BACKENDS = {"qwen3": registry.BackendSpec(backend, preflight.refusal)}
    app = create_app()
    app.add_api_route("/bench/decodes", take_decodes)
    return app

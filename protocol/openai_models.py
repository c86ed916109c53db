"""The model names that OpenAI's clients may use here: every one means the engine of this server. Pure."""

from __future__ import annotations

from typing import Any

from protocol.errors import NotFound
from protocol.openai_errors import OpenAiError

ALIASES = (
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-transcribe",
    "gpt-realtime-whisper",
    "gpt-live-transcribe",
)
_CREATED = 1_764_201_600
"""Unix seconds. The field is required, but no client uses it."""
_WITHOUT_VAD = ("gpt-realtime-whisper", "gpt-live-transcribe")


class ModelNotFound(NotFound):
    """`/v1/models/{id}` names another model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"there is no model {model}")
        self.shown = OpenAiError(message=str(self), type="invalid_request_error", param="model", code="model_not_found")


def model_list(engine: str) -> dict[str, Any]:
    """Answer of `GET /v1/models`: the engine's name and the aliases."""
    return {"object": "list", "data": [_model(name) for name in (engine, *ALIASES)]}


def model(engine: str, name: str) -> dict[str, Any]:
    """Answer of `GET /v1/models/{id}`.

    Raises:
        ModelNotFound: it is neither the engine's name nor an alias.
    """
    if name not in (engine, *ALIASES):
        raise ModelNotFound(name)
    return _model(name)


def implies_no_vad(name: str) -> bool:
    """Whether clients that ask for this model end utterances themselves, and leave `turn_detection` out."""
    return name.startswith(_WITHOUT_VAD)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "realtime-stt-ws"}

"""Writes docs/asyncapi.json from the native protocol's models: `python docs/asyncapi.py`, or `--check` to compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from protocol import native_client_messages as client  # noqa: E402 - after the path
from protocol import native_server_messages as server  # noqa: E402

PAGE = ROOT / "docs" / "asyncapi.json"
ADDRESS = "/v1/stt/ws"
CLIENT_MESSAGES: tuple[type[BaseModel], ...] = (
    client.Commit, client.Clear, client.Configure, client.KeepAlive, client.Finish,
)  # fmt: skip
SERVER_MESSAGES: tuple[type[BaseModel], ...] = (
    server.Ready, server.SpeechStarted, server.SpeechStopped, server.Level, server.Partial, server.Final,
    server.Cleared, server.Configured, server.Finished, server.Warning, server.ErrorMessage,
)  # fmt: skip


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the WebSocket."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in CLIENT_MESSAGES]
    models += [(model, "serialization") for model in SERVER_MESSAGES]
    query = client.ConnectParams.model_json_schema()
    query.pop("$defs", None)
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    messages: dict[str, Any] = {
        model.__name__: {
            "name": model.__name__,
            "summary": " ".join((model.__doc__ or "").split()),
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
        for model in (*CLIENT_MESSAGES, *SERVER_MESSAGES)
    }
    messages["Audio"] = {
        "name": "Audio",
        "summary": "Audio in the codec, at the rate and with the channels of the query, of any length up to 256 KiB.",
        "contentType": "application/octet-stream",
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "realtime-stt-ws", "version": "1", "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "channels": {
            "session": {
                "address": ADDRESS,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"query": query}},
            }
        },
        "operations": {
            "clientMessages": _operation("receive", ["Audio", *(model.__name__ for model in CLIENT_MESSAGES)]),
            "serverMessages": _operation("send", [model.__name__ for model in SERVER_MESSAGES]),
        },
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/session"},
        "messages": [{"$ref": f"#/channels/session/messages/{name}"} for name in names],
    }


def written() -> str:
    """The document as it stands in the file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Rewrite the file, or say whether it is out of date."""
    stale = not PAGE.exists() or PAGE.read_text() != written()
    if stale and "--check" not in sys.argv:
        PAGE.write_text(written())
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())

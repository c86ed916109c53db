"""Writes the tables of the docs from the docstrings they define: `python docs/tables.py`, or `--check` to compare.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; everything else in a page is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from config import Settings  # noqa: E402 - after the path
from observability.metrics import Metrics  # noqa: E402
from protocol import http_messages, native_client_messages, native_server_messages, timed_word  # noqa: E402
from protocol.errors import CloseCode  # noqa: E402
from protocol.events import Reason, WarningCode  # noqa: E402

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_FOLDERS = {"references": "its own folder", "model_dir": "the user's cache folder"}
"""Defaults that differ from machine to machine."""

_HTTP_REQUESTS = (http_messages.TranscribeParams, http_messages.TokenRequest)

_SERVER_MESSAGE: type[BaseModel] = native_server_messages.Ready.__bases__[0]
"""The base of all messages of the server."""

_DESCRIBED_ONCE = (_SERVER_MESSAGE, http_messages.Segment, http_messages.Transcript)
"""Models whose fields the tables of their subclasses leave out."""


def pages() -> list[Path]:
    """Every page that may hold a table."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rewritten(text: str) -> str:
    """The page with every table made anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}{found[3]}", text)


def _table(name: str) -> str:
    special: dict[str, Callable[[], str]] = {
        "settings": _settings,
        "metrics": _metrics,
        "close_codes": lambda: _codes(CloseCode, "errors.py", "code"),
        "reasons": lambda: _codes(Reason, "events.py", "reason"),
        "warning_codes": lambda: _codes(WarningCode, "events.py", "code"),
        "message_fields": lambda: _model(_SERVER_MESSAGE),
    }
    return special[name]() if name in special else _model(wire_models()[name])


def wire_models() -> dict[str, type[BaseModel]]:
    """Every public model of a message or an HTTP body, by its name."""
    modules = (native_client_messages, native_server_messages, http_messages, timed_word)
    return {
        name: model
        for module in modules
        for name, model in vars(module).items()
        if isinstance(model, type)
        and issubclass(model, BaseModel)
        and model.__module__ == module.__name__
        and not name.startswith("_")
    }


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |\n" for line in lines)


def _settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = _FOLDERS.get(name, "" if field.default is None else str(field.default))
        default = ",".join(field.default) if isinstance(field.default, tuple) else default
        rows.append((f"`STT_{name.upper()}`", f"`{default}`" if default else "(none)", _text(field.description)))
    return _rows(("setting", "default", "meaning"), rows)


def _model(model: type[BaseModel]) -> str:
    bases = [base for base in model.__mro__[1:] if base in _DESCRIBED_ONCE]
    elsewhere = {"type"}.union(*(base.model_fields for base in bases))
    rows = []
    for name, field in model.model_fields.items():
        if name not in elsewhere:
            rows.append((f"`{name}`", _type(model, name), _presence(model, name), _text(field.description)))
    return _rows(("field", "type", "presence", "meaning"), rows) if rows else "No other fields.\n"


def _type(model: type[BaseModel], name: str) -> str:
    """The JSON type of a field, from its JSON schema."""
    schema = model.model_json_schema(mode="serialization" if _is_sent(model) else "validation")
    return _json_type(schema["properties"][name], schema.get("$defs", {}))


def _json_type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "string" if "enum" in definitions[name] else name
    if "anyOf" in schema:
        return " or ".join(_json_type(each, definitions) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"array of {_json_type(schema.get('items', {}), definitions)}"
    return str(schema["type"])


def _presence(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "always" if _is_sent(model) else "required"
    if field.default is None:
        return "optional"
    if _is_sent(model):
        return "always"
    return f"default `{json.dumps(field.default)}`" if field.default != () else "optional"


def _is_sent(model: type[BaseModel]) -> bool:
    """Whether the server sends it."""
    return model.__module__ != native_client_messages.__name__ and model not in _HTTP_REQUESTS


def _metrics() -> str:
    rows = []
    for metric in Metrics().registry.collect():
        if not metric.name.startswith("stt_"):
            continue  # of the process and of Python: they depend on the machine
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        rows.append((f"`{name}`", metric.type, metric.documentation))
    return _rows(("metric", "type", "meaning"), rows)


def _codes(codes: type[Enum], module: str, head: str) -> str:
    source = (ROOT / "protocol" / module).read_text()
    rows = []
    for code in codes:
        found = re.search(rf"    {code.name} = .*\n    \"\"\"([^\"]+)\"\"\"", source)
        if found is None:
            raise LookupError(f"{code} has no docstring")
        shown = f"`{code.value}`" if isinstance(code.value, str) else str(code.value)
        rows.append((shown, _text(found[1])))
    return _rows((head, "meaning"), rows)


def _text(description: str | None) -> str:
    return " ".join((description or "").split())


def main() -> int:
    """Rewrite the pages, or say which ones are out of date."""
    stale = [page for page in pages() if rewritten(page.read_text()) != page.read_text()]
    for page in stale:
        if "--check" not in sys.argv:
            page.write_text(rewritten(page.read_text()))
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())

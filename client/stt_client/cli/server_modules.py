"""Finds the server's modules, if the client is installed beside them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from stt_client.cli.exit_codes import Failure

_CHECKOUT = Path(__file__).resolve().parents[3]
"""The server's folder, where the client is installed from a clone of it."""


def available() -> bool:
    """Whether the server's modules and what they need can be imported; finds them in the client's own clone."""
    if (_CHECKOUT / "transport" / "serving.py").is_file() and str(_CHECKOUT) not in sys.path:
        sys.path.insert(0, str(_CHECKOUT))
    return all(importlib.util.find_spec(name) for name in ("app", "transport", "fastapi", "numpy"))


def require(command: str) -> None:
    """Make sure that the server's modules can be imported.

    Raises:
        Failure: they cannot; the text says what to install.
    """
    if not available():
        raise Failure(
            f"`stt {command}` needs the server, and only the client is installed: clone realtime-stt-ws, run "
            "`make serve` in it once, and use .venv/bin/stt there."
        )

"""`stt serve`: the server, with the settings that people change most as flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stt_client.cli import server_modules
from stt_client.cli.exit_codes import Failure

_DEFAULT_MODEL = "base"


def serve(settings: Mapping[str, str | None]) -> None:
    """Run the server until a signal; `settings` (names of variables) win over the environment.

    Raises:
        Failure: it cannot run here, or its model cannot be fetched.
    """
    server_modules.require("serve")
    os.environ.update({name: value for name, value in settings.items() if value is not None})
    os.environ.setdefault("STT_BACKEND", "auto")
    _fetch_model()
    import app

    app.main()


def _fetch_model() -> None:
    """Fetch the model that whisper would need and this machine does not have."""
    import models

    if os.environ["STT_BACKEND"] not in ("auto", "whisper"):
        return
    folder = Path(os.environ.get("STT_MODEL_DIR") or models.default_model_dir()).expanduser()
    name = os.environ.get("STT_WHISPER_MODEL")
    needed = name or (None if models.on_disk(folder) else _DEFAULT_MODEL)
    if needed is None or models.find(needed) is None:
        return
    try:
        models.pull(needed, folder)
    except models.ModelError as fault:
        raise Failure(str(fault)) from fault

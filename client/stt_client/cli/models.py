"""`stt models`: the server's models on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stt_client.cli import server_modules
from stt_client.cli.exit_codes import Exit, Failure


def show(*, as_json: bool) -> Exit:
    """List what there is, and what is on this machine."""
    rows = _rows()
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return Exit.DONE
    table = Table(box=None, pad_edge=False)
    for name, justify in (("name", "left"), ("MB", "right"), ("languages", "right"), ("licence", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("on this machine")
    for row in rows:
        size, there = round(int(str(row["bytes"])) / 1e6), "yes" if row["folder"] else "no"
        table.add_row(str(row["name"]), str(size), str(row["languages"]), str(row["licence"]), there)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"In {_folder()}; fetch one with `stt models pull NAME`.", markup=False)
    return Exit.DONE


def _rows() -> list[dict[str, object]]:
    import models

    folder = _folder()
    return [
        {
            "name": model.name,
            "bytes": model.size,
            "licence": model.licence,
            "languages": model.languages,
            "folder": str(there) if (there := models.path(model.name, folder)) else None,
        }
        for model in models.TABLE
    ]


def pull(names: Sequence[str]) -> Exit:
    """Fetch models; a download that broke off is resumed."""
    import models

    return _each(names, lambda name: str(models.pull(name, _folder())))


def remove(names: Sequence[str]) -> Exit:
    """Delete models."""
    import models

    def work(name: str) -> None:
        there = models.remove(name, _folder())
        sys.stdout.write(f"The model {name} {'is removed' if there else 'was not on this machine'}.\n")

    return _each(names, work)


def _each(names: Sequence[str], work: Callable[[str], object]) -> Exit:
    import models

    try:
        for name in names:
            work(name)
    except (models.ModelError, OSError) as fault:
        raise Failure(str(fault)) from fault
    return Exit.DONE


def _folder() -> Path:
    import models

    return Path(os.environ.get("STT_MODEL_DIR") or models.default_model_dir()).expanduser()


def require() -> None:
    """Make sure that the server's list of models is there.

    Raises:
        Failure: only the client is installed.
    """
    server_modules.require("models")

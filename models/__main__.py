"""`python -m models list | pull NAME... | remove NAME...`, on the folder that STT_MODEL_DIR names."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import models
from models import Model


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 after one sentence on stderr that says what failed."""
    parsed = _parser().parse_args(arguments)
    model_dir = Path(os.environ.get("STT_MODEL_DIR") or models.default_model_dir()).expanduser()
    try:
        if parsed.command == "list":
            _list(model_dir)
        for name in getattr(parsed, "names", ()):
            _pull(name, model_dir) if parsed.command == "pull" else _remove(name, model_dir)
    except (models.ModelError, OSError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What was fetched is kept, and the next pull resumes.\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description="Whisper models on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list models, and which are on this machine")
    for command, meaning in (("pull", "fetch models"), ("remove", "delete models")):
        commands.add_parser(command, help=meaning).add_argument("names", nargs="+", metavar="NAME")
    return parser


def _list(model_dir: Path) -> None:
    row = "{:<16} {:>8} {:>9} {:<7} {:>5} {:>6}  {}\n"
    sys.stdout.write(row.format("name", "MB", "languages", "licence", "WER", "CPU s", "on this machine"))
    for model in models.TABLE:
        there = models.path(model.name, model_dir)
        sys.stdout.write(row.format(*_cells(model), there or "no"))
    sys.stdout.write(
        "WER: word error rate, English, streamed. CPU s: core-seconds a second of live speech, int8. -: not measured.\n"
    )


def _cells(model: Model) -> tuple[str, ...]:
    measured = (model.word_error_rate, model.cpu_seconds)
    rate, cost = ("-" if value is None else f"{value:g}" for value in measured)
    return model.name, f"{model.size / 1e6:.0f}", str(model.languages), model.licence, rate, cost


def _pull(name: str, model_dir: Path) -> None:
    models.pull(name, model_dir)


def _remove(name: str, model_dir: Path) -> None:
    there = models.remove(name, model_dir)
    sys.stdout.write(f"The model {name} {'is removed' if there else 'was not on this machine'}.\n")


if __name__ == "__main__":
    sys.exit(main())

"""Command line, tables, JSON and progress messages of all measurements, and the conditions of a run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.common.server_process import ROOT

_PACKAGES = ("uvicorn", "websockets", "uvloop", "fastapi", "janus", "numpy", "faster-whisper", "ctranslate2", "vllm")

Row = Mapping[str, object]


def argument_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all measurements share. `command` is `load ramp`, for example.

    From here on SIGTERM ends the process as Ctrl-C does, so that the server under test is ended too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=f"python -m bench.{command}", description=description, formatter_class=style)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices (1)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting without STT_")
    return parser


def run_command(package: str, *modules: ModuleType) -> None:
    """Call `main` of the module that the first argument names, with the arguments behind it.

    Raises:
        SystemExit: the name is missing or unknown; the text lists the commands.
    """
    commands = {module.__name__.rpartition(".")[2].replace("_", "-"): module for module in modules}
    name, *arguments = sys.argv[1:] or [""]
    if name not in commands:
        lines = (f"{command:16}{(module.__doc__ or '').splitlines()[0]}" for command, module in commands.items())
        raise SystemExit("\n".join([f"usage: python -m bench.{package} COMMAND [--help] ...", "", *lines]))
    commands[name].main(arguments)


def integers(text: str) -> list[int]:
    """Parse whole numbers that are separated by commas."""
    return [int(each) for each in text.split(",")]


def words(text: str) -> list[str]:
    """Parse words that are separated by commas."""
    return [each for each in text.split(",") if each]


def run_conditions(command: str, settings: Mapping[str, str], **cores: Sequence[int]) -> dict[str, Any]:
    """Return the conditions of a run and what is needed to repeat it. `cores` has the cores of each process."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0]
    return {
        "tool": command,
        "command": shlex.join(["python", "-m", f"bench.{command.split(maxsplit=1)[0]}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "processor": cpu.strip("\t :") or platform.machine(),
        "cores": {name: list(numbers) for name, numbers in cores.items()},
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "versions": {each.name: each.version for each in metadata.distributions() if each.name in _PACKAGES},
        "settings": dict(settings),
    }


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def table(rows: Sequence[Row]) -> str:
    """Return rows as aligned columns. The keys of the first row are the headings; None is shown as `-`."""
    headings = list(rows[0]) if rows else ["(nothing)"]
    cells = [headings] + [[_cell(row.get(heading)) for heading in headings] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def print_report(
    args: argparse.Namespace, conditions: Row, rows: Sequence[Row], problems: Iterable[str] = (), **measured: object
) -> None:
    """Print the table and each problem once, and write everything measured as JSON if `--json` asks for it.

    Args:
        args: the values of `argument_parser`.
        conditions: the result of `run_conditions`.
        rows: the rows of the table.
        problems: reasons to doubt the table.
        measured: further values for the JSON.
    """
    unique_problems = list(dict.fromkeys(problems))
    print("\n".join([table(rows), *([""] if unique_problems else []), *unique_problems]))
    write_json(args, {**conditions, "rows": rows, "problems": unique_problems, **measured})


def write_json(args: argparse.Namespace, run: Row) -> None:
    """Write a run as JSON if `--json` asks for it."""
    if args.json is not None:
        args.json.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nJSON: {args.json}")


def print_progress(step: str) -> None:
    """Print on stderr what is measured now."""
    print(step, file=sys.stderr, flush=True)

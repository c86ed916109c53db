"""The programs of docs/client.md run."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.audio import text_of
from tests.server import ROOT, Server

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_page_prints_the_words(program: str, mock_server: Server) -> None:
    """Each program of the page transcribes a recording on a real server."""
    program = program.replace("http://localhost:8000", mock_server.http)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1].endswith(text_of("hello"))

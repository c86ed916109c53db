"""The program of docs/getting-started.md runs."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.audio import text_of
from tests.server import ROOT, Server


def test_the_python_program_prints_the_final(mock_server: Server) -> None:
    """The page's Python client streams a recording and prints its final and `finished`."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "getting-started.md").read_text(), re.DOTALL)
    assert found is not None
    program = found[1].replace("ws://localhost:8000", f"ws://127.0.0.1:{mock_server.port}")
    command = [sys.executable, "-c", program, "references/hello.wav"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert printed.splitlines()[-2:] == [f"final {text_of('hello')}", "finished "]

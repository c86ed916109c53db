"""The engine's processes do not outlive a server that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.processes import ending
from tests.server import eventually

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for a parent's death signal")

SERVER = r"""
    import multiprocessing, os, sys, threading, time
    from backends.qwen3.parent_death import ParentDeathSignal, kill_forks_with_parent

    def nested(signal, method, depth):
        if depth:
            multiprocessing.get_context(method).Process(target=nested, args=(signal, method, depth - 1)).start()
        os.write(1, f"{os.getpid()} {os.getpgrp()}\n".encode())
        time.sleep(600)

    def serve(method):
        kill_forks_with_parent(threading.get_ident())
        nested(ParentDeathSignal(), method, 2)

    if __name__ == "__main__":
        thread = threading.Thread(target=serve, args=(sys.argv[1],))
        thread.start()
        thread.join()
"""
"""A process with a child that has a child."""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_children_die_with_a_killed_parent(tmp_path: Path, method: str) -> None:
    """Children and their children die with a killed server, and are in process groups of their own."""
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(SERVER))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with ending(subprocess.Popen([sys.executable, script, method], stdout=subprocess.PIPE, env=environment)) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline().split() for _ in range(3)]
        groups = {int(pid): int(group) for pid, group in lines}
        assert server.pid in groups
        children = set(groups) - {server.pid}
        assert all(groups[child] == child for child in children)
        server.kill()
        eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))

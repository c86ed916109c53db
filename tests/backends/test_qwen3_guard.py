"""The engine's processes do not outlive a server that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.server import eventually

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for a parent's death signal")

OWNER = r"""
    import multiprocessing, os, sys, threading, time
    from backends.qwen3.guard import Guard, guard_forks

    def nested(guard, method, depth):
        if depth:
            multiprocessing.get_context(method).Process(target=nested, args=(guard, method, depth - 1)).start()
        os.write(1, f"{os.getpid()} {os.getpgrp()}\n".encode())
        time.sleep(600)

    def own(method):
        guard_forks(threading.get_ident())
        nested(Guard(), method, 2)

    if __name__ == "__main__":
        thread = threading.Thread(target=own, args=(sys.argv[1],))
        thread.start()
        thread.join()
"""
"""A server whose engine has a child, which has a child."""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_children_die_with_a_killed_parent(tmp_path: Path, method: str) -> None:
    """And theirs with them, however they were started; Ctrl-C on a terminal is not for them."""
    script = tmp_path / "owner.py"
    script.write_text(textwrap.dedent(OWNER))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script, method], stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None
        lines = [owner.stdout.readline().split() for _ in range(3)]
        groups = {int(pid): int(group) for pid, group in lines}
        assert owner.pid in groups
        children = set(groups) - {owner.pid}
        assert all(groups[child] == child for child in children)
        owner.kill()
        eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))

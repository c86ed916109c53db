"""The locked requirements of a CUDA machine belong to pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^ ;\\]+)[^\n]*\\\n +--hash=sha256:")


def test_the_lock_has_every_dependency_in_range() -> None:
    """Each dependency of the server and of the extra qwen3 is pinned, with a hash, to a version that is allowed."""
    pins = {pin["name"].lower(): pin["version"] for pin in PIN.finditer((ROOT / "requirements/gpu.txt").read_text())}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["qwen3"]])]
    wrong = [str(each) for each in needed if not each.specifier.contains(pins.get(each.name.lower(), "0"))]
    assert wrong == []


def test_the_lock_has_hashes_only() -> None:
    """Every requirement of the lock has a hash."""
    lock = (ROOT / "requirements/gpu.txt").read_text()
    pinned = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pinned) > 100
    assert all(line.endswith("\\") for line in pinned)

"""The version that the server tells."""

from __future__ import annotations

import tomllib

from observability.version import VERSION
from tests.server import ROOT


def test_the_version_is_that_of_the_project() -> None:
    """In one more place than pyproject.toml, so they are compared."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION

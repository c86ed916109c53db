"""What deploy/ and the Containerfile name exists."""

from __future__ import annotations

import re

from config import Settings
from tests.deploy.containerfile import FILE
from tests.deploy.programs import DEPLOY


def test_settings_named_for_deployment_exist() -> None:
    """Every STT_ name in the Containerfile and in a file of deploy/ is a setting."""
    files = [FILE, *(path for path in DEPLOY.rglob("*") if path.is_file())]
    named = {name for path in files for name in re.findall(r"\bSTT_([A-Z_]+[A-Z])", path.read_text())}

    assert named - {name.upper() for name in Settings.model_fields} == set()

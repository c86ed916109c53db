"""How long the tests wait."""

from __future__ import annotations

PATIENCE_SECONDS = 300.0
"""How long a test waits for what must come. It ends a hang, and is far more than a busy machine needs."""

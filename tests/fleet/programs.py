"""Where HAProxy is not installed, its tests are skipped."""

from __future__ import annotations

import pytest

from tools.fleet.processes import find_haproxy

needs_haproxy = pytest.mark.skipif(find_haproxy() is None, reason="HAProxy is not installed: apt-get install haproxy")

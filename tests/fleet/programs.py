"""Where a proxy is not installed, its tests are skipped."""

from __future__ import annotations

import shutil

import pytest

from tools.fleet.processes import find_haproxy

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
needs_haproxy = pytest.mark.skipif(find_haproxy() is None, reason="HAProxy is not installed: apt-get install haproxy")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx")

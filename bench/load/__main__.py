"""`python -m bench.load COMMAND`."""

from __future__ import annotations

from bench.common.report import run_command
from bench.load import connects, contended, conversion, fleet, overhead, ramp, uploads

if __name__ == "__main__":
    run_command("load", overhead, ramp, connects, contended, conversion, uploads, fleet)

"""`python -m bench.endpoints COMMAND`."""

from __future__ import annotations

from bench.common.report import run_command
from bench.endpoints import noise, stalls

if __name__ == "__main__":
    run_command("endpoints", noise, stalls)

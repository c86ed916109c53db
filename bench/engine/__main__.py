"""`python -m bench.engine COMMAND`."""

from __future__ import annotations

from bench.common.report import run_command
from bench.engine import cost, qwen3_capacity

if __name__ == "__main__":
    run_command("engine", cost, qwen3_capacity)

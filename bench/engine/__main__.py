"""`python -m bench.engine COMMAND`.

cost             CPU, memory, start and speed of an engine on this machine
qwen3-capacity   live streams that qwen3 carries on this machine, with weights of the true size but without a download
"""

from __future__ import annotations

from bench.common.report import run_command
from bench.engine import cost, qwen3_capacity

if __name__ == "__main__":
    run_command("engine", __doc__ or "", {"cost": cost.main, "qwen3-capacity": qwen3_capacity.main})

"""`python -m bench.endpoints COMMAND`.

noise   endpoints of each voice activity detector in noise, and its CPU
stalls  what happens to an utterance whose audio stops coming
plot    draws docs/endpoints.svg
"""

from __future__ import annotations

from bench.common.report import run_command
from bench.endpoints import noise, plot, stalls

if __name__ == "__main__":
    run_command("endpoints", __doc__ or "", {"noise": noise.main, "stalls": stalls.main, "plot": plot.main})

"""Latency of finals of four speakers at once, and the duration of a decode in an idle engine on the same cores.

    STT_VLLM_MODEL=references/tiny-qwen3-asr python -m tests.qwen3.measure_final_latency

Prints Markdown. Starts two engines: the server's, and an idle one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from backends.qwen3.backend import Qwen3Backend
from bench.common.stats import summary
from tests.qwen3.client_sessions import compare_final_latency
from tests.qwen3.conftest import OPTIONS, launch


def main() -> None:
    """Measure once."""
    alone = Qwen3Backend(OPTIONS)
    try:
        with TemporaryDirectory() as folder, launch(Path(folder)) as server:
            alone.start()
            latencies, bare = compare_final_latency(server, alone)
    finally:
        alone.close()
    sys.stdout.write("| ms | count | p50 | p95 | p99 |\n|---|---|---|---|---|\n")
    for name, values in (("`latency_ms` of finals, four speakers", latencies), ("a decode alone", bare)):
        sys.stdout.write(f"| {name} | {' | '.join(map(str, summary(values).values()))} |\n")


if __name__ == "__main__":
    main()

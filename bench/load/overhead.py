"""CPU of the server for one second of audio of one stream, with the mock engine, compared with a baseline.

The baseline is a bare WebSocket under uvicorn's defaults, or another version of the server (--against). The server has
one core and the generator has another. The streams play references/ with 1 s of silence after each recording.

cpu_ms          CPU in ms for one second of audio of one stream; loop_ms: the part that the event loop used
ratio           cpu_ms divided by that of the baseline: median of the rounds; ratios: smallest and largest
wake_ups        voluntary context switches for one second of audio of one stream
p50, p95, p99   ms from the frame that completes the endpoint's silence to the final, seen by the client
p95s            p95 of each window; p95 ratio: p95 divided by that of the baseline
rss_kb          peak resident memory minus that of the idle server, for one stream, in 1000 bytes
gen_late        largest p99 of the delays of the generator, in ms
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.common.report import argument_parser
from bench.load.server_comparison import BARE_SOCKET, Target, add_arguments, compare, take_own_core


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parser = argument_parser("load overhead", __doc__)
    add_arguments(parser, [50, 100, 200, 300], rounds=5, seconds=6.0)
    parser.add_argument("--against", type=Path, metavar="DIR", help="checkout of another version, to compare with")
    args = parser.parse_args(argv)
    bare_socket = Target("baseline", BARE_SOCKET, silent=True)
    baseline = Target("baseline", root=args.against) if args.against else bare_socket
    compare("load overhead", [baseline, Target("server")], args, take_own_core())

"""`python -m bench.load COMMAND`.

overhead   CPU of a stream, next to a bare WebSocket
ramp       number of live streams that a server carries within a limit of delay
connects   connections per second, next to a bare WebSocket
contended  delays while other processes keep the cores busy
dialects   CPU of a stream in OpenAI's dialect, next to our own
conversion CPU of decoding and resampling a stream, in every codec
uploads    delays of live streams beside uploads of an hour, next to the same streams alone
fleet      gaps and places of three servers behind HAProxy, and the CPU of the proxy
"""

from __future__ import annotations

from bench.common.report import run_command
from bench.load import connects, contended, conversion, dialects, fleet, overhead, ramp, uploads

if __name__ == "__main__":
    commands = {
        "overhead": overhead.main,
        "ramp": ramp.main,
        "connects": connects.main,
        "contended": contended.main,
        "dialects": dialects.main,
        "conversion": conversion.main,
        "uploads": uploads.main,
        "fleet": fleet.main,
    }
    run_command("load", __doc__ or "", commands)

"""Writes deploy/prometheus/dashboard.json, Grafana's dashboard of the servers: `python -m tools.grafana_dashboard`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from observability.masking import Json

PATH = Path(__file__).parents[1] / "deploy" / "prometheus" / "dashboard.json"
_SELECTION = 'job=~"$job", instance=~"$instance"'
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 24
"""Width and height of a panel, and columns of the dashboard, in units of Grafana's grid."""
_DATASOURCE: dict[str, Json] = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart over time; expressions by their legends. `{}` in an expression stands for the servers chosen."""

    title: str
    unit: str
    """Grafana's name of the unit: s, percentunit, short, bytes."""
    series: dict[str, str]
    description: str = ""


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{}}[$__rate_interval]))"


def _quantiles(metric: str) -> dict[str, str]:
    return {
        f"p{percent}": f"histogram_quantile({percent / 100}, {_rate(f'{metric}_bucket', 'le')})"
        for percent in (50, 95, 99)
    }


ROWS: dict[str, list[Panel]] = {
    "Capacity": [
        Panel(
            "Sessions and capacity",
            "short",
            {
                "sessions": "sum(stt_sessions{})",
                "sessions that ready servers allow": "sum(stt_max_sessions{} * stt_ready{})",
                "70 % of them": "0.7 * sum(stt_max_sessions{} * stt_ready{})",
            },
            "Add a server when the sessions stay above the 70 % line.",
        ),
        Panel("Sessions by server", "short", {"{{instance}}": "stt_sessions{}"}),
        Panel(
            "Saturation",
            "percentunit",
            {"{{instance}}": "stt_saturation{}"},
            "The larger of sessions to STT_MAX_SESSIONS and of seconds behind to 5 s. At 100 % none are admitted.",
        ),
        Panel("Ready servers", "short", {"ready": "sum(stt_ready{})", "scraped": "count(stt_ready{})"}),
        Panel(
            "Refusals per second",
            "short",
            {"{{protocol}} {{reason}}": f"{_rate('stt_refusals_total', 'protocol, reason')} > 0 or vector(0)"},
            "A proxy takes a handshake that one server refused to the next.",
        ),
        Panel("Uploads", "short", {"in progress": "sum(stt_http_requests_in_progress{})"}),
    ],
    "Delay": [
        Panel("Endpoint to final", "s", _quantiles("stt_final_latency_seconds")),
        Panel("First sound to first text", "s", _quantiles("stt_first_token_seconds")),
        Panel(
            "Endpoint to final, 95th percentile by server",
            "s",
            {"{{instance}}": f"histogram_quantile(0.95, {_rate('stt_final_latency_seconds_bucket', 'instance, le')})"},
        ),
        Panel("Engine behind live audio", "s", {"{{instance}}": "stt_seconds_behind{}"}),
        Panel("Oldest message in the inbound queues", "s", {"{{instance}}": "stt_in_queue_age_seconds{}"}),
        Panel(
            "Event loop behind",
            "s",
            {"{{instance}}": "stt_event_loop_lag_seconds{}"},
            "The longest of the last minute. It delays every session of the server.",
        ),
        Panel(
            "Messages in queues",
            "short",
            {"{{instance}} in": "stt_in_queue_messages{}", "{{instance}} out": "stt_out_queue_messages{}"},
        ),
    ],
    "Losses": [
        Panel(
            "Dropped",
            "short",
            {
                "{{instance}} seconds of audio per second": _rate("stt_dropped_audio_seconds_total", "instance"),
                "{{instance}} audio messages per second": _rate("stt_dropped_messages_total", "instance"),
                "{{instance}} partials per second": _rate("stt_dropped_partials_total", "instance"),
            },
            "Dropped partials cost no words; dropped audio does.",
        ),
        Panel(
            "Closes per second",
            "short",
            {"{{code}} by {{by}}": _rate("stt_closes_total", "code, by")},
            "1011: the server failed. 1012: it restarts. 1013: it is full, not ready or too slow.",
        ),
        Panel(
            "Engine restarts and closes for overload, in 5 minutes",
            "short",
            {
                "{{instance}} restarts": "increase(stt_engine_restarts_total{}[5m])",
                "{{instance}} closes": "increase(stt_overload_closes_total{}[5m])",
            },
        ),
    ],
    "Engine": [
        Panel("Seconds of audio per second", "short", {"{{source}}": _rate("stt_audio_seconds_total", "source")}),
        Panel(
            "Seconds of inference per second",
            "short",
            {"{{instance}}": _rate("stt_inference_seconds_total", "instance")},
            "Of all sessions together: above 1 where the engine decodes several at once.",
        ),
        Panel("Finals per second", "short", {"{{reason}}": _rate("stt_segments_total", "reason")}),
        Panel(
            "qwen3: decodes in flight", "short", {"{{purpose}}": "sum by (purpose) (stt_engine_decodes_in_flight{})"}
        ),
        Panel(
            "qwen3: seconds of decodes per second",
            "short",
            {"{{purpose}} {{part}}": _rate("stt_engine_decode_seconds_total", "purpose, part")},
        ),
        Panel(
            "qwen3: speech between two refreshes",
            "s",
            {"{{instance}}": "stt_engine_refresh_spacing_seconds{} < +Inf"},
            "The engine spaces refreshes out under load, and partials come less often.",
        ),
    ],
    "Processes": [
        Panel("Cores used", "short", {"{{instance}}": "rate(process_cpu_seconds_total{}[$__rate_interval])"}),
        Panel("Resident memory", "bytes", {"{{instance}}": "process_resident_memory_bytes{}"}),
        Panel("File descriptors used", "percentunit", {"{{instance}}": "process_open_fds{} / process_max_fds{}"}),
    ],
}


def dashboard() -> dict[str, Json]:
    """The dashboard, in Grafana's JSON model."""
    panels = list(_panels())
    variables = [_datasource(), _variable("job", "stt_ready"), _variable("instance", 'stt_ready{job=~"$job"}')]
    numbered: list[Json] = [{"id": number} | panel for number, panel in enumerate(panels, start=1)]
    return {
        "title": "Speech to text",
        "uid": "realtime-stt-ws",
        "editable": True,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": numbered,
    }


def written() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _panels() -> Iterator[dict[str, Json]]:
    top = 0
    for title, row in ROWS.items():
        yield {"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1}}
        top += 1
        for index, panel in enumerate(row):
            line, column = divmod(index * _WIDTH, _COLUMNS)
            yield _panel(panel, {"x": column, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT})
        top += -(-len(row) * _WIDTH // _COLUMNS) * _HEIGHT


def _panel(panel: Panel, position: Json) -> dict[str, Json]:
    targets: list[Json] = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _DATASOURCE,
            "expr": expression.replace("{}", f"{{{_SELECTION}}}"),
            "legendFormat": legend,
        }
        for index, (legend, expression) in enumerate(panel.series.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _datasource() -> Json:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _variable(name: str, series: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": f"label_values({series}, {name})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    PATH.write_text(written())

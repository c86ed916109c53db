"""Builds a folder with the configuration of a real model and no weights, for vLLM's `load_format="dummy"`.

Tokenizer, feature extractor and token ids come from the tiny checkpoint in references/ of the same architecture.
The sizes of the 1.7B model are those of its published config.json.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.common.server_process import ROOT

FOLDER = Path(__file__).parent / "shapes"  # the differences from the configuration of the tiny checkpoint
SHAPES = sorted(file.stem for file in FOLDER.glob("*.json"))
TINY = ROOT / "references" / "tiny-qwen3-asr"


@contextmanager
def model_folder(shape: str, tiny: Path = TINY) -> Iterator[Path]:
    """A model folder of this shape; it is removed when the context ends.

    Raises:
        SystemExit: `tiny` holds no checkpoint.
    """
    if not (tiny / "config.json").exists():
        raise SystemExit(f"{tiny} has no config.json: --tiny names the folder of the tiny checkpoint")
    with TemporaryDirectory(prefix="bench-shape-") as name:
        folder = Path(name)
        shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md"), dirs_exist_ok=True)
        (folder / "config.json").write_text(json.dumps(configuration(shape, tiny), indent=1), encoding="utf-8")
        yield folder


def configuration(shape: str, tiny: Path = TINY) -> dict[str, Any]:
    """The config.json of the shape."""
    made: dict[str, Any] = json.loads((tiny / "config.json").read_text(encoding="utf-8"))
    differences: dict[str, dict[str, Any]] = json.loads((FOLDER / f"{shape}.json").read_text(encoding="utf-8"))
    for part, sizes in differences.items():
        made["thinker_config"][part] |= sizes
    return made

"""A model folder with a true model's shape and no weights, for vLLM's `load_format="dummy"`.

The rest of a folder (tokenizer, feature extractor, the ids of markup) comes from the tiny checkpoint in references/,
whose architecture is the same: what is read and written has the true number of tokens, each of them another token.
Sizes of the 1.7B model: its published config.json.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.server import ROOT

SHAPES = Path(__file__).parent / "shapes"
"""What differs from the tiny checkpoint's configuration, by shape."""
TINY = ROOT / "references" / "tiny-qwen3-asr"
_COPIED = ("generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")


def names() -> list[str]:
    """The shapes there are."""
    return sorted(file.stem for file in SHAPES.glob("*.json"))


@contextmanager
def model_of(shape: str, tiny: Path = TINY) -> Iterator[Path]:
    """A model folder of this shape, until the context ends.

    Raises:
        SystemExit: there is no tiny checkpoint.
    """
    if not (tiny / "config.json").exists():
        raise SystemExit(f"{tiny} has no config.json: --tiny names the folder of the tiny checkpoint")
    with TemporaryDirectory(prefix="bench-shape-") as name:
        folder = Path(name)
        for copied in _COPIED:
            if (tiny / copied).exists():
                shutil.copy(tiny / copied, folder)
        (folder / "config.json").write_text(json.dumps(configuration(shape, tiny), indent=1), encoding="utf-8")
        yield folder


def configuration(shape: str, tiny: Path = TINY) -> dict[str, Any]:
    """The shape's config.json."""
    made: dict[str, Any] = json.loads((tiny / "config.json").read_text(encoding="utf-8"))
    differences: dict[str, dict[str, Any]] = json.loads((SHAPES / f"{shape}.json").read_text(encoding="utf-8"))
    for part, sizes in differences.items():
        made["thinker_config"][part] |= sizes
    return made

"""Options of the whisper engine; imports nothing heavy, so that settings can build them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class WhisperOptions:
    """The model and its share of the machine."""

    model: Path
    """Folder of a model in CTranslate2's format, with its tokenizer.json. Languages are read from the model itself."""
    draft_model: Path | None = None
    """Folder of a smaller model for partials; None: partials are decoded by `model`."""
    device: Device = "auto"
    """`auto`: the first CUDA device if there is one, else the CPU."""
    compute_type: str = "auto"
    """Number type of the weights, as CTranslate2 names them. `auto`: int8 on a CPU; float16 on a GPU, or int8_float16
    where the GPU has no fast float16."""
    beam_size: int = 5
    """Beams of a final; partials are decoded greedily."""
    threads: int = 0
    """Cores to decode on; 0: all that the process may use."""

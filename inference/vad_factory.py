"""Names of voice activity detectors -> detectors, loaded only when chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from inference import silero
from inference.vad import EnergyVad, Vad, VadOptions

Detector = Literal["energy", "silero"]
MakeVad = Callable[[VadOptions], Vad]
"""Makes a new source's detector; any thread."""


class VadUnavailable(Exception):
    """The chosen detector cannot run here; the text is one plain sentence that says what to do."""


def check(name: Detector) -> None:
    """Cheap look at whether `name` can run here: nothing heavy is imported.

    Raises:
        VadUnavailable: it cannot.
    """
    if name == "silero" and not silero.installed():
        raise VadUnavailable("STT_VAD=silero needs its extra: run `uv sync --extra silero`, or set STT_VAD=energy.")


def load(name: Detector) -> MakeVad:
    """Get `name` ready; `check` has passed. Blocks while a model is loaded."""
    if name == "energy":
        return lambda options: EnergyVad(options.threshold)
    network = silero.load()
    return lambda _: silero.SileroVad(network)

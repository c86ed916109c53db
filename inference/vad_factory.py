"""Creates voice activity detectors by name. Only the chosen one is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from inference import silero
from inference.vad import EnergyVad, Vad, VadOptions

Detector = Literal["energy", "silero"]
MakeVad = Callable[[VadOptions], Vad]
"""Creates the detector of a source; any thread."""


class VadUnavailable(Exception):
    """The chosen detector cannot run on this machine. The text is one sentence that says what to do."""


def check(name: Detector) -> None:
    """Check that `name` can run on this machine, without importing anything heavy.

    Raises:
        VadUnavailable: it cannot.
    """
    if name == "silero" and not silero.installed():
        raise VadUnavailable("STT_VAD=silero needs its extra: run `uv sync --extra silero`, or set STT_VAD=energy.")


def load(name: Detector) -> MakeVad:
    """Load `name`, for which `check` has passed. Blocks while a model is loaded."""
    if name == "energy":
        return lambda options: EnergyVad(options.threshold)
    network = silero.load()
    return lambda _: silero.SileroVad(network)

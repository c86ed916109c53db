"""Make this folder's recordings with flite: `python references/make.py`, by hand, when a sentence changes.

It needs Debian's `flite` on the PATH. The same flite writes the same bytes every time.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
RATE = 16_000
"""Sample rate in Hz. The voices kal16 and rms have the same, so nothing is resampled."""
FRAME_SAMPLES = 320
"""Number of samples in 20 ms."""
VOICED_RMS = 300.0
"""RMS in 16-bit units from which the server's energy detector finds speech by default."""
PEAK = 16_384.0
"""Peak of the speech in 16-bit units: -6 dBFS."""
NOISE_RMS = 10.0
"""RMS of the noise in 16-bit units, as in a quiet room. No silence is digital zero."""
LEAD_SAMPLES = 5 * FRAME_SAMPLES
"""Number of samples kept before the first voiced frame, because a soft consonant begins below the threshold."""
TAIL_SAMPLES = 7 * FRAME_SAMPLES
"""Number of samples kept after the last voiced frame, because a last consonant fades below the threshold."""
PAUSE_SAMPLES = RATE * 800 // 1000
"""Number of samples between two utterances of a recording: more than the 500 ms that end an utterance by default."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to make."""

    voice: str
    """Name of a flite voice with 16 kHz."""
    lines: tuple[str, ...]
    """The text of each utterance."""


RECORDINGS = {
    "hello": Recording("kal16", ("hello and welcome to the speech server",)),
    "keys": Recording("kal16", ("he left his keys on the kitchen table",)),
    "meeting": Recording("kal16", ("please call me back when the meeting is over",)),
    "pauses_hotel": Recording("rms", ("breakfast is served from seven until ten", "the key is at the front desk")),
    "pauses_meeting": Recording(
        "kal16",
        (
            "the meeting starts at nine",
            "there is a coffee machine next to the door",
            "we hope to see you there",
        ),
    ),
    "price": Recording("kal16", ("the price of coffee went up again last month",)),
    "radio": Recording("rms", ("the old radio plays music from many countries",)),
    "school": Recording("rms", ("the children are playing football behind the school",)),
    "train": Recording("rms", ("we took the early train to the city on friday",)),
    "weather": Recording("rms", ("the weather in the north is cold and windy today",)),
    "wind": Recording(
        "rms", ("the warm wind from the south will bring some rain to the coast before the end of the week",)
    ),
}


def synthesize(flite: str, voice: str, line: str) -> npt.NDArray[np.float64]:
    """Return speech for `line`, trimmed and with its peak at PEAK: float64 [n] in 16-bit units."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "line.wav")
        subprocess.run([flite, "-voice", voice, "-t", f"{line}.", "-o", str(path)], check=True)  # noqa: S603 -- the arguments are this file's
        with wave.open(str(path), "rb") as wav:
            if (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) != (RATE, 1, 2):
                raise SystemExit(f"{voice} does not speak 16 kHz mono PCM16")
            speech = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float64)
    # The padding ensures that LEAD_SAMPLES and TAIL_SAMPLES exist, whatever silence flite left.
    speech = np.pad(speech * (PEAK / np.abs(speech).max()), RATE)
    frames = speech[: len(speech) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    voiced = np.flatnonzero(np.sqrt((frames**2).mean(axis=1)) >= VOICED_RMS)
    return speech[int(voiced[0]) * FRAME_SAMPLES - LEAD_SAMPLES : (int(voiced[-1]) + 1) * FRAME_SAMPLES + TAIL_SAMPLES]


def write_recording(flite: str, name: str, recording: Recording) -> None:
    """Write `name`.wav and `name`.txt."""
    pieces = [synthesize(flite, recording.voice, line) for line in recording.lines]
    for index in range(len(pieces) - 1, 0, -1):
        pieces.insert(index, np.zeros(PAUSE_SAMPLES))
    speech = np.concatenate(pieces)
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0.0, NOISE_RMS, len(speech))
    with wave.open(str(HERE / f"{name}.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(np.rint(speech + noise).astype("<i2").tobytes())
    (HERE / f"{name}.txt").write_text("\n".join(recording.lines) + "\n", encoding="utf-8")


def main() -> None:
    """Write all recordings."""
    flite = shutil.which("flite")
    if flite is None:
        raise SystemExit("flite is not installed: apt-get install flite")
    for name, recording in RECORDINGS.items():
        write_recording(flite, name, recording)


if __name__ == "__main__":
    main()

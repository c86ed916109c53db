"""Audio for `stt stream`: a file, the standard input, or the microphone, as pieces of 100 ms."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import wave
from array import array
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from stt_client.cli.exits import Failure

_RATE = 16_000
"""Hz of the microphone, and of files that are decoded here."""
_RECORDERS = (
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(_RATE), "-c", "1"),
    ("parec", "--raw", "--format=s16le", f"--rate={_RATE}", "--channels=1"),
    ("rec", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", str(_RATE), "-c", "1", "-"),
)
"""Programs that write the microphone to their standard output: of ALSA, PulseAudio and SoX."""


@dataclass(frozen=True, slots=True)
class Source:
    """Audio as it comes; `pieces` blocks, and is read by a thread of its own."""

    sample_rate: int
    pieces: Generator[bytes, None, None]
    """Signed 16-bit little-endian, mono."""
    live: bool
    """Whether the pieces come as fast as they are spoken; else they are at hand at once."""


def open_source(name: str, rate: int) -> Source:
    """The source that the command line names.

    Raises:
        Failure: it cannot be read; the text says what to do.
    """
    if name == "mic":
        return Source(_RATE, _microphone(), live=True)
    if name == "-":
        return Source(rate, _raw(sys.stdin.fileno(), rate), live=True)
    path = Path(name)
    if not path.is_file():
        raise Failure(f"There is no file {name}: name a file, - for the standard input, or mic.")
    return _wave(path) or Source(_RATE, _decoded(path), live=False)


def _wave(path: Path) -> Source | None:
    """A WAV file of 16-bit PCM at its own rate; None: it is something else."""
    try:
        recording = wave.open(str(path), "rb")  # noqa: SIM115 - the generator closes it
    except (wave.Error, EOFError):
        return None
    if recording.getsampwidth() != 2 or recording.getframerate() not in range(8_000, 48_001):
        recording.close()
        return None
    return Source(recording.getframerate(), _frames(recording), live=False)


def _frames(recording: wave.Wave_read) -> Generator[bytes, None, None]:
    channels = recording.getnchannels()
    with recording:
        while frames := recording.readframes(recording.getframerate() // 10):
            yield frames if channels == 1 else _mixed(frames, channels)


def _mixed(frames: bytes, channels: int) -> bytes:
    samples = array("h", frames)
    each = [samples[channel::channels] for channel in range(channels)]
    return array("h", (sum(values) // channels for values in zip(*each, strict=True))).tobytes()


def _raw(descriptor: int, rate: int) -> Generator[bytes, None, None]:
    # A buffered stream has a lock, on which the end of the program would fail while a thread waits for input.
    while piece := os.read(descriptor, rate // 10 * 2):
        yield piece


def _decoded(path: Path) -> Generator[bytes, None, None]:
    """Any other file, by PyAV or by FFmpeg's program."""
    if importlib.util.find_spec("av"):
        return _by_pyav(path)
    if program := shutil.which("ffmpeg"):
        return _program([program, "-v", "error", "-i", str(path), "-f", "s16le", "-ar", str(_RATE), "-ac", "1", "-"])
    raise Failure(f"{path} is not a WAV file of 16-bit PCM: install ffmpeg, or use `stt transcribe`.")


def _by_pyav(path: Path) -> Generator[bytes, None, None]:
    import av

    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
            for frame in container.decode(audio=0):
                for resampled in resampler.resample(frame):
                    yield resampled.to_ndarray().tobytes()
            for resampled in resampler.resample(None):
                yield resampled.to_ndarray().tobytes()
    except (av.FFmpegError, IndexError) as error:
        raise Failure(f"{path} cannot be decoded: {error}.") from error


def _microphone() -> Generator[bytes, None, None]:
    if importlib.util.find_spec("sounddevice"):
        return _by_sounddevice()
    for command in _RECORDERS:
        if program := shutil.which(command[0]):
            return _program([program, *command[1:]])
    raise Failure("No program reads the microphone: run `pip install sounddevice`, or install alsa-utils (arecord).")


def _by_sounddevice() -> Generator[bytes, None, None]:
    try:
        import sounddevice
    except OSError as error:
        raise Failure(f"The microphone cannot be read: {error}; install libportaudio2.") from error
    try:
        with sounddevice.RawInputStream(samplerate=_RATE, channels=1, dtype="int16", blocksize=_RATE // 10) as stream:
            while True:
                piece, overflowed = stream.read(_RATE // 10)
                if overflowed:
                    sys.stderr.write("Sound of the microphone was lost: this machine or the network was too slow.\n")
                yield bytes(piece)
    except sounddevice.PortAudioError as error:
        raise Failure(f"The microphone cannot be read: {error}.") from error


def _program(command: list[str]) -> Generator[bytes, None, None]:
    # In a process group of its own: Ctrl-C on the terminal is for this program alone.
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            if process.stdout is not None:
                yield from _raw(process.stdout.fileno(), _RATE)
            status = process.wait()
        finally:
            process.terminate()
    if status:
        raise Failure(f"{command[0]} ended with status {status}.")

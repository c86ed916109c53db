"""Audio for `stt stream`: a file, the standard input, or the microphone, as pieces of 100 ms."""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import subprocess
import sys
import threading
import wave
from array import array
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from stt_client.cli.exit_codes import Failure

_RATE = 16_000
"""Hz of the microphone, and of files that are decoded here."""
_RECORDERS = (
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(_RATE), "-c", "{channels}"),
    ("parec", "--raw", "--format=s16le", f"--rate={_RATE}", "--channels={channels}"),
    ("rec", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", str(_RATE), "-c", "{channels}", "-"),
)
"""Programs that write the microphone to their standard output: of ALSA, PulseAudio and SoX."""
_POLL_SECONDS = 0.1
"""How often a source that waits for input checks whether it is to stop."""
_PIPE_BYTES = 65_536
"""What a pipe holds on Linux (pipe(7)): the most that is read after the stop from a source that never pauses."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of audio. Iterating `pieces` blocks, so a thread of its own does it."""

    sample_rate: int
    pieces: Generator[bytes, None, None]
    """Signed 16-bit little-endian, channels interleaved."""
    channels: int
    live: bool
    """Whether the pieces come at the speed of speech; else they are available at once."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by any thread: `pieces` of a live source then gives what was said before, and ends."""


def open_source(name: str, rate: int, channels: int = 1) -> Source:
    """The source that the command line names; with one channel those of a file are mixed.

    Raises:
        Failure: it cannot be read, or a file has not so many channels; the text says what to do.
    """
    stop = threading.Event()
    if name == "mic":
        return Source(_RATE, _microphone(channels, stop), channels, live=True, stop=stop)
    if name == "-":
        return Source(rate, _raw(sys.stdin.fileno(), rate * channels, stop), channels, live=True, stop=stop)
    path = Path(name)
    if not path.is_file():
        raise Failure(f"There is no file {name}: name a file, - for the standard input, or mic.")
    return _wave(path, channels) or Source(_RATE, _decoded(path, channels, stop), channels, live=False, stop=stop)


def _wave(path: Path, channels: int) -> Source | None:
    """A WAV file of 16-bit PCM at its own rate; None: it is something else."""
    try:
        recording = wave.open(str(path), "rb")  # noqa: SIM115 - the generator closes it
    except (wave.Error, EOFError):
        return None
    if recording.getsampwidth() != 2 or recording.getframerate() not in range(8_000, 48_001):
        recording.close()
        return None
    if channels > 1 and recording.getnchannels() != channels:
        recording.close()
        raise _wrong_channels(path, recording.getnchannels(), channels)
    return Source(recording.getframerate(), _frames(recording, channels), channels, live=False)


def _wrong_channels(path: Path, found: int, wanted: int) -> Failure:
    return Failure(f"{path} has {found} channel{'s' * (found != 1)}, not {wanted}: leave out --channels.")


def _frames(recording: wave.Wave_read, channels: int) -> Generator[bytes, None, None]:
    found = recording.getnchannels()
    with recording:
        while frames := recording.readframes(recording.getframerate() // 10):
            yield frames if found == channels else _mixed(frames, found)


def _mixed(frames: bytes, channels: int) -> bytes:
    samples = array("h", frames)
    each = [samples[channel::channels] for channel in range(channels)]
    return array("h", (sum(values) // channels for values in zip(*each, strict=True))).tobytes()


def _raw(descriptor: int, rate: int, stop: threading.Event) -> Generator[bytes, None, None]:
    # Not a buffered stream: its lock would make the exit of the program fail while a thread waits for input.
    left = _PIPE_BYTES
    while left > 0:
        stopping = stop.is_set()  # asked first: what came before the stop is in the pipe now
        if select.select([descriptor], [], [], 0 if stopping else _POLL_SECONDS)[0]:
            piece = os.read(descriptor, rate // 10 * 2)
            if not piece:
                return
            left -= len(piece) if stopping else 0
            yield piece
        elif stopping:
            return


def _decoded(path: Path, channels: int, stop: threading.Event) -> Generator[bytes, None, None]:
    """Any other file, by PyAV or by FFmpeg's program."""
    if importlib.util.find_spec("av"):
        return _by_pyav(path, channels)
    if program := shutil.which("ffmpeg"):
        form = ("-f", "s16le", "-ar", str(_RATE), "-ac", str(channels))
        return _program([program, "-v", "error", "-i", str(path), *form, "-"], channels, stop)
    raise Failure(f"{path} is not a WAV file of 16-bit PCM: install ffmpeg, or use `stt transcribe`.")


def _by_pyav(path: Path, channels: int) -> Generator[bytes, None, None]:
    import av

    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="s16", layout="mono" if channels == 1 else "stereo", rate=_RATE)
            for frame in container.decode(audio=0):
                if channels > 1 and frame.layout.nb_channels != channels:
                    raise _wrong_channels(path, frame.layout.nb_channels, channels)
                for resampled in resampler.resample(frame):
                    yield resampled.to_ndarray().tobytes()
            for resampled in resampler.resample(None):
                yield resampled.to_ndarray().tobytes()
    except (av.FFmpegError, IndexError) as error:
        raise Failure(f"{path} cannot be decoded: {error}.") from error


def _microphone(channels: int, stop: threading.Event) -> Generator[bytes, None, None]:
    if importlib.util.find_spec("sounddevice"):
        return _by_sounddevice(channels, stop)
    for command in _RECORDERS:
        if program := shutil.which(command[0]):
            return _program([program, *(each.format(channels=channels) for each in command[1:])], channels, stop)
    raise Failure("No program reads the microphone: run `pip install sounddevice`, or install alsa-utils (arecord).")


def _by_sounddevice(channels: int, stop: threading.Event) -> Generator[bytes, None, None]:
    try:
        import sounddevice
    except OSError as error:
        raise Failure(f"The microphone cannot be read: {error}; install libportaudio2.") from error
    try:
        with sounddevice.RawInputStream(_RATE, _RATE // 10, channels=channels, dtype="int16") as stream:
            while not stop.is_set():
                piece, overflowed = stream.read(_RATE // 10)
                if overflowed:
                    sys.stderr.write("Sound of the microphone was lost: this machine or the network was too slow.\n")
                yield bytes(piece)
    except sounddevice.PortAudioError as error:
        raise Failure(f"The microphone cannot be read: {error}.") from error


def _program(command: list[str], channels: int, stop: threading.Event) -> Generator[bytes, None, None]:
    # In a process group of its own: Ctrl-C on the terminal is for this program alone.
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            if process.stdout is not None:
                yield from _raw(process.stdout.fileno(), _RATE * channels, stop)
            status = 0 if stop.is_set() else process.wait()
        finally:
            process.terminate()
    if status:
        raise Failure(f"{command[0]} ended with status {status}.")

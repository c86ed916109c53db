"""Decodes a live stream of Opus: one packet in each message, or an Ogg or WebM stream cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from protocol.opus_ogg import CAPTURE_PATTERN, OggReader
from protocol.opus_packets import OPUS_RATE, OpusHead, OpusItem, OpusPacket, OpusReader, PacketReader
from protocol.opus_webm import EBML, WebmReader
from protocol.pcm import INT16_SCALE, Signal

_LAYOUTS = {1: "mono", 2: "stereo"}
_BLOCK_SAMPLES = OPUS_RATE // 4
"""Decoded samples after which other connections are served: 250 ms, about 0.5 ms of CPU."""
_BLOCK_ITEMS = 50
"""Items without samples after which other connections are served."""


class OpusStream:
    """Decodes one stream to 48 kHz. The result does not depend on how a container is cut. Used by one thread.

    The bytes of the first message decide which container it is. libopus, the codec's reference, decodes, and
    mixes or doubles channels where the stream has other than asked for. A packet that it cannot decode is silence of
    the packet's length, if it says one. No packet gives more than 120 ms, and what `decode` has not been asked for is
    not decoded.
    """

    def __init__(self, channels: int = 1) -> None:
        """`channels` are 1 or 2."""
        self._channels = channels
        self._reader: OpusReader | None = None
        self._undecided: list[bytes] = []
        """First messages, which were too short to show what the stream is."""
        self._start(OpusHead(0))
        self.faults: list[str] = []
        """Descriptions of the damage, each kind once, which bounds the list."""

    def decode(self, message: bytes) -> Iterator[Signal]:
        """The next samples as float32 [n, channels], lazily, in blocks of 370 ms at most; some blocks are empty."""
        block: list[Signal] = []
        samples = 0
        for number, item in enumerate(self._items(message), 1):
            if isinstance(item, OpusPacket):
                block.append(self._decoded(item))
                samples += len(block[-1])
            elif isinstance(item, OpusHead):
                self._start(item)
            else:
                self._report(item.fact)
            if samples >= _BLOCK_SAMPLES or number % _BLOCK_ITEMS == 0:
                yield self._joined(block)
                block, samples = [], 0
        if block:
            yield self._joined(block)

    def _items(self, message: bytes) -> Iterator[OpusItem]:
        if self._reader is not None:
            yield from self._reader.read(message)
            return
        self._undecided.append(message)
        begin = b"".join(self._undecided)
        if any(magic.startswith(begin) and begin != magic for magic in (CAPTURE_PATTERN, EBML)):
            return
        messages, self._undecided = self._undecided, []
        self._reader = _reader(begin)
        for each in messages:
            yield from self._reader.read(each)

    def _start(self, head: OpusHead) -> None:
        self._decoder = av.AudioCodecContext.create("libopus", "r")
        self._decoder.sample_rate, self._decoder.layout = OPUS_RATE, _LAYOUTS[self._channels]
        self._to_skip = head.pre_skip
        self._gain = np.float32(head.gain) * INT16_SCALE

    def _decoded(self, packet: OpusPacket) -> Signal:
        try:
            frames = self._decoder.decode(av.Packet(packet.data))
            samples = b"".join(frame.to_ndarray().tobytes() for frame in frames)
        except (av.FFmpegError, ValueError):
            self._report("a packet cannot be decoded")
            samples = bytes(2 * self._channels * packet.samples)
        signal = np.frombuffer(samples, "<i2").reshape(-1, self._channels)[: packet.samples]
        skipped = min(self._to_skip, len(signal))
        self._to_skip -= skipped
        decoded: Signal = signal[skipped:] * self._gain
        return decoded

    def _joined(self, block: list[Signal]) -> Signal:
        return np.concatenate(block) if block else np.zeros((0, self._channels), np.float32)

    def _report(self, fact: str) -> None:
        if fact not in self.faults:
            self.faults.append(fact)


def _reader(begin: bytes) -> OpusReader:
    if begin.startswith(CAPTURE_PATTERN):
        return OggReader()
    return WebmReader() if begin.startswith(EBML) else PacketReader()

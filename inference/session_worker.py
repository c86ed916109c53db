"""The loop of a session's worker thread: passes audio and commands to the channels, which report events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from inference.arrival_times import ArrivalTimes
from inference.session_channel import SessionChannel, SessionContext
from inference.session_config import SessionConfig
from inference.utterance_pipeline import UtterancePipeline
from inference.worker_interfaces import AudioSource, CommandMessage, EventSink, Inbound, NextDecision, SinkClosed
from observability.connection_telemetry import ConnectionTelemetry
from protocol import events
from protocol.events import Reason
from protocol.pcm import PcmReader, Samples, ms, samples_of

POLL_SPEECH_SECONDS = 0.05
"""Seconds of new audio that wake the worker while an utterance is open or a final is decoded. More with many
sessions."""
POLL_IDLE_SECONDS = 0.2
"""The same while no utterance is open."""
POLL_LEVEL_SECONDS = 0.1
"""The same while no utterance is open, if levels are reported."""
_BLOCK = samples_of(1_000)
"""Audio is processed in blocks of at most this many samples, so that a long message delays neither partials nor a
cancellation."""
_NOTHING = np.zeros(0, np.int16)


class SessionWorker:
    """One session's segmentation and decoding. `run` is the thread's body; everything is called on that thread."""

    def __init__(
        self,
        source: AudioSource,
        sink: EventSink,
        pipelines: Sequence[UtterancePipeline],
        config: SessionConfig,
        telemetry: ConnectionTelemetry,
    ) -> None:
        """`pipelines` has one for each channel of the audio."""
        self._source = source
        self._sink = sink
        self._config = config
        self._reader = PcmReader(len(pipelines))
        self._arrivals = ArrivalTimes(len(pipelines))
        context = SessionContext(source, sink, self._arrivals, telemetry)
        self._channels = tuple(
            SessionChannel(number, context, pipeline, config) for number, pipeline in enumerate(pipelines)
        )
        self._has_levels = any(pipeline.has_levels for pipeline in pipelines)
        self._steps: Iterator[Samples | CommandMessage] = iter(())
        self._stall_seconds: float | None = None
        """Seconds without audio that are watched for; None: no watch."""
        self._concluded: Reason | None = None
        """Why the session ends. Once it is set, no more input is taken."""

    def run(self) -> None:
        """Work until the source is cancelled, or the last final is delivered after `Finish` or the source's end.

        Raises:
            EngineError: an utterance could not be decoded.
        """
        try:
            while not self._source.cancelled:
                for channel in self._channels:
                    channel.publish()
                if self._concluded and not any(channel.has_finals for channel in self._channels):
                    self._conclude()
                    break
                if not self._step():
                    self._wait()
        except SinkClosed:
            pass  # the session ended while a final waited for room in the queue: a normal end
        finally:
            self._steps = iter(())  # a suspended generator and this object would keep each other until a collection
            for channel in self._channels:
                channel.cancel()

    def _conclude(self) -> None:
        if self._concluded is Reason.FINISH:
            self._sink.put(events.Finished())

    def _wait(self) -> None:
        self._watch_for_stall()
        busy = any(channel.is_busy for channel in self._channels)
        # Nothing can change before the audio has reached the next decision.
        idle = POLL_LEVEL_SECONDS if self._has_levels else POLL_IDLE_SECONDS
        decision = None
        if self._can_take:
            decision = NextDecision(
                min(channel.next_decision_at for channel in self._channels),
                min(channel.next_end_at for channel in self._channels),
            )
        self._source.wait(POLL_SPEECH_SECONDS if busy else idle, decision)

    def _watch_for_stall(self) -> None:
        seconds = max((each.stall_seconds for each in self._channels if each.stall_seconds is not None), default=None)
        if seconds != self._stall_seconds:
            self._stall_seconds = seconds
            self._source.watch_for_stall(seconds)

    @property
    def _can_take(self) -> bool:
        return not self._concluded and not any(channel.is_full for channel in self._channels)

    def _step(self) -> bool:
        """Process the next block of audio or command; False: there is none."""
        if not self._can_take:
            return False
        if self._process_backlog():
            return True
        step = next(self._steps, None)
        if step is None:
            # Read before `take`: messages that come in between would otherwise be lost.
            exhausted = self._source.exhausted
            self._steps = self._blocks(self._source.take())
            step = next(self._steps, None)
            if step is None and exhausted:
                self._end_session(self._source.end_reason, time.monotonic())
                return True
        if isinstance(step, CommandMessage):
            self._execute(step.command, step.arrived)
        elif step is not None:
            for channel, samples in zip(self._channels, step, strict=True):
                channel.feed(samples)
        return step is not None

    def _process_backlog(self) -> bool:
        """Process samples after ends of utterances, so that all channels reach the same position.

        Returns whether there were any.
        """
        late = [channel for channel in self._channels if channel.has_backlog]
        for channel in late:
            channel.feed(_NOTHING)
        return bool(late)

    def _blocks(self, messages: Sequence[Inbound]) -> Iterator[Samples | CommandMessage]:
        """Commands, and audio in blocks, int16 [channels, n]."""
        for message in messages:
            if isinstance(message, CommandMessage):
                yield message
                continue
            silence, samples = self._reader.read(message.offset, b"".join(message.chunks))
            self._arrivals.record(message)
            if silence:
                self._report_dropped(silence)
            for done in range(0, silence, _BLOCK):
                yield np.zeros((len(self._channels), min(_BLOCK, silence - done)), np.int16)
            for first in range(0, samples.shape[1], _BLOCK):
                yield samples[:, first : first + _BLOCK]

    def _report_dropped(self, samples: int) -> None:
        """Report audio that was dropped from the full queue. It counts as silence in every channel."""
        begin = self._channels[0].position
        for channel in self._channels:
            channel.drop(samples)
        self._sink.put(
            events.Warning(
                events.WarningCode.AUDIO_DROPPED,
                f"the engine is late: audio from {ms(begin)} to {ms(begin + samples)} ms was dropped",
            )
        )

    def _execute(self, command: events.Command, arrived: float) -> None:
        match command:
            case events.Commit() | events.Clear() | events.Stall():
                for channel in self._channels:
                    channel.execute(command, arrived)
                if isinstance(command, events.Clear):
                    self._sink.put(events.Cleared())
            case events.Configure():
                self._configure(command)
            case events.Reject(code, message):
                self._sink.put(events.Warning(code, message))
            case events.Finish():
                self._end_session(Reason.FINISH, arrived)
            case _:
                raise AssertionError(f"the worker does not execute {command}")

    def _end_session(self, reason: Reason, arrived: float) -> None:
        self._concluded = reason
        for channel in self._channels:
            channel.end(reason, arrived)

    def _configure(self, command: events.Configure) -> None:
        self._config = self._config.changed(command)
        for channel in self._channels:
            channel.configure(self._config, command.vad_threshold)
        self._sink.put(self._config.reported())

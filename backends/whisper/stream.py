"""One utterance: its audio, the decodes it waits for, and its final."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from backends.base import ASRResult, EngineError, StreamOptions, Word
from backends.whisper.decoders import Decoders, Job, Outcome
from backends.whisper.scheduler import Kind
from backends.whisper.transcription import Request
from backends.whisper.utterance_audio import NO_PARTIAL_QUIET, UtteranceAudio
from protocol.pcm import SAMPLE_RATE, Signal, ms

KNOWN_LANGUAGE_SECONDS = 2.0
"""Seconds after which partials keep the detected language. It was then right for 8 of 9 languages."""

_Span = tuple[int, int]
"""Start and end of a span in samples, without the end."""


class WhisperStream:
    """An `ASRStream`. No method blocks: the decoders' threads deliver the outcomes of jobs.

    An utterance is decoded in spans of at most 29 s, nearly always one. A closed span, after which more audio follows,
    is decoded at once; the last span when the speaker pauses or the utterance ends. If a core is idle, it is decoded as
    soon as the sound ends; if the speaker goes on, the result counts as a partial.
    """

    def __init__(self, decoders: Decoders, options: StreamOptions) -> None:
        self._decoders = decoders
        self._options = options
        self._lock = threading.Lock()
        """Guards all attributes below. The decoders' lock may be taken while it is held, never the reverse."""
        self._recording = UtteranceAudio()
        self._language = options.language
        """Language of partials: forced, or detected in enough audio."""
        self._partial: Job | None = None
        """The partial that is running or queued; None when done, since it refers to this stream."""
        self._partial_span: _Span = (0, 0)
        """The span that it covers."""
        self._requested_samples = 0
        """Samples that the newest partial or early final was requested for."""
        self._covered_samples = 0
        """Samples that the newest hypothesis covers."""
        self._early_final: tuple[Job, _Span] | None = None
        """The newest final that began before the pause, also if it is not needed any more."""
        self._running_finals: dict[_Span, Job] = {}
        self._finals: dict[_Span, Outcome] = {}
        self._unread_hypothesis: ASRResult | None = None
        """The newest hypothesis, until `partial` returns it."""
        self._has_text = False
        self._paused = False
        self._error: EngineError | None = None
        self._finished_samples: int | None = None
        """Length of the finished utterance in samples; None: not finished."""
        self._is_over = False
        """Whether the final was delivered, or the utterance cancelled."""
        self._future: Future[ASRResult] = Future()
        if options.live:
            decoders.live_opened()

    def push(self, samples: Signal) -> None:
        """See `ASRStream`; after `finish` or `cancel` it does nothing."""
        with self._lock:
            if self._is_over or self._finished_samples is not None or not len(samples):
                return
            self._recording.append(samples)
            self._paused = False
            spans = self._recording.spans(len(self._recording))
            self._keep_finals(spans)
            self._decode_spans(spans[:-1])
            self._begin_early(spans[-1])
            self._ask_for_partial()

    def partial(self) -> ASRResult | None:
        """See `ASRStream`; None after `finish` or `cancel`."""
        with self._lock:
            if self._is_over or self._finished_samples is not None:
                return None
            if self._error is not None:
                raise self._error
            news, self._unread_hypothesis = self._unread_hypothesis, None
            return news

    def pause(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if self._is_over or self._finished_samples is not None or not self._options.live:
                return
            self._paused = True
            if self._partial is not None and self._decoders.withdraw(self._partial):
                self._partial = None
            if self._recording.audible(len(self._recording)):
                self._decode_spans(self._recording.spans(len(self._recording)))

    def finish(self, samples: int) -> Future[ASRResult]:
        """See `ASRStream`; after `cancel` the future is cancelled.

        Raises:
            ValueError: fewer than `samples` were pushed, or it is finished already.
        """
        with self._lock:
            if self._is_over and self._finished_samples is None:
                return self._future
            if self._finished_samples is not None or not 0 <= samples <= len(self._recording):
                raise ValueError(f"cannot finish at {samples} of {len(self._recording)} samples")
            self._finished_samples = samples
            self._drop_partial()
            needed = self._needed(samples)
            self._keep_finals(needed)
            self._decode_spans(needed)
        self._deliver()
        return self._future

    def cancel(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if self._is_over:
                return
            self._close()
        # Not under the lock: callbacks of the future may call a stream.
        if self._future.cancel():
            self._future.set_running_or_notify_cancel()

    def _ask_for_partial(self) -> None:
        """Queue a partial if there is enough new audio. The caller holds the lock, as for all methods below."""
        if not self._options.live or self._partial is not None or self._paused or self._error is not None:
            return
        seconds = max(self._decoders.partial_spacing(first=not self._has_text), self._options.partial_ms / 1000)
        length = len(self._recording)
        if length - self._requested_samples < seconds * SAMPLE_RATE or not self._recording.audible(length):
            return
        if self._has_text and self._recording.quiet() >= NO_PARTIAL_QUIET:
            return
        job = Job(Kind.PARTIAL, self._partial_request, self._partial_done)
        if self._submit(job):
            self._partial = job

    def _partial_request(self) -> Request:
        """The request with the newest audio. Called on a decoding thread."""
        with self._lock:
            self._partial_span = self._recording.spans(len(self._recording))[-1]
            self._requested_samples = self._partial_span[1]
            return self._request(self._partial_span, self._language)

    def _partial_done(self, job: Job, outcome: Outcome | EngineError) -> None:
        with self._lock:
            if self._partial is not job:
                return
            self._partial = None
            if isinstance(outcome, EngineError):
                self._error = outcome
                news = True
            else:
                news = self._take_hypothesis(outcome, self._partial_span)
                self._ask_for_partial()
        if news:
            self._options.notify()

    def _take_hypothesis(self, outcome: Outcome, span: _Span) -> bool:
        """Keep a hypothesis for `partial`; returns whether it is new."""
        transcript, (start, end) = outcome.transcript, span
        closed = [self._finals.get(each) for each in self._recording.spans(end)[:-1]]
        if not transcript.text or None in closed or end <= self._covered_samples:
            return False  # no text, or an earlier span has none yet, or a newer hypothesis overtook it
        self._covered_samples = end
        if end - start >= KNOWN_LANGUAGE_SECONDS * SAMPLE_RATE:
            self._language = transcript.language
        texts = [each.transcript.text for each in closed if each is not None]
        text = " ".join(filter(None, [*texts, transcript.text]))
        self._unread_hypothesis = ASRResult(text, transcript.language, inference_seconds=outcome.seconds)
        self._has_text = True
        return True

    def _begin_early(self, span: _Span) -> None:
        """Begin the final of a span that ends with quiet, if a core is idle."""
        length = len(self._recording)
        if not self._options.live or not self._has_text or span[1] == length:
            return  # without text yet, a partial comes sooner than a final
        if span in self._running_finals or span in self._finals:
            return
        if self._recording.audible(span[1]) and self._decoders.has_spare_core():
            self._drop_partial()
            self._decode_spans([span])
            self._requested_samples = span[1]
            if (job := self._running_finals.get(span)) is not None:
                self._early_final = job, span

    def _needed(self, samples: int) -> list[_Span]:
        return self._recording.spans(samples) if self._recording.audible(samples) else []

    def _decode_spans(self, spans: list[_Span]) -> None:
        """Begin the finals that are neither done nor running."""
        if not self._options.live and self._finished_samples is None:
            return
        for span in spans:
            if span in self._finals or span in self._running_finals:
                continue
            kind = Kind.FINAL if self._options.live else Kind.FILE
            job = Job(kind, lambda span=span: self._final_request(span), self._final_done)  # type: ignore[misc]
            if self._submit(job):
                self._running_finals[span] = job

    def _keep_finals(self, spans: list[_Span]) -> None:
        """Drop the finals of all other spans."""
        for span in self._running_finals.keys() - set(spans):
            self._decoders.withdraw(self._running_finals.pop(span))
        for span in self._finals.keys() - set(spans):
            del self._finals[span]

    def _final_request(self, span: _Span) -> Request:
        with self._lock:
            return self._request(span, self._options.language)

    def _final_done(self, job: Job, outcome: Outcome | EngineError) -> None:
        with self._lock:
            span = next((span for span, its in self._running_finals.items() if its is job), None)
            news = self._take_early(job, outcome)
            if span is not None:
                del self._running_finals[span]
                if isinstance(outcome, EngineError):
                    self._error = outcome
                else:
                    self._finals[span] = outcome
        if news:
            self._options.notify()
        self._deliver()

    def _take_early(self, job: Job, outcome: Outcome | EngineError) -> bool:
        """Use an early final as a hypothesis, also if the speaker went on; returns whether it is new."""
        if self._early_final is None or self._early_final[0] is not job:
            return False
        span, self._early_final = self._early_final[1], None
        if self._is_over or self._finished_samples is not None or isinstance(outcome, EngineError):
            return False
        return self._take_hypothesis(outcome, span)

    def _request(self, span: _Span, language: str | None) -> Request:
        asked = self._options
        return Request(self._recording.cut(*span), language, asked.task, asked.hotwords, asked.context, asked.words)

    def _submit(self, job: Job) -> bool:
        try:
            self._decoders.submit(job)
        except EngineError as error:
            self._error = error
            return False
        return True

    def _deliver(self) -> None:
        """Resolve the future if the utterance is finished and its finals are done."""
        with self._lock:
            if self._is_over or self._finished_samples is None:
                return
            needed = self._needed(self._finished_samples)
            if self._error is None and not self._finals.keys() >= set(needed):
                return
            error = self._error
            result = self._result({} if error is not None else {span: self._finals[span] for span in needed})
            self._close()
        if not self._future.set_running_or_notify_cancel():
            return
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def _result(self, outcomes: dict[_Span, Outcome]) -> ASRResult:
        transcripts = [outcome.transcript for outcome in outcomes.values()]
        language = next((each.language for each in transcripts if each.text), self._options.language)
        timed = [_later(word, span) for span, each in outcomes.items() for word in each.transcript.words or ()]
        words = tuple(timed) if self._options.words else None
        text = " ".join(each.text for each in transcripts if each.text)
        return ASRResult(text, language, words, sum(outcome.seconds for outcome in outcomes.values()))

    def _drop_partial(self) -> None:
        if self._partial is not None:
            self._decoders.withdraw(self._partial)
            self._partial = None

    def _close(self) -> None:
        """Drop all work. Running decodes are not waited for."""
        self._is_over = True
        self._drop_partial()
        self._keep_finals([])
        if self._options.live:
            self._decoders.live_closed()


def _later(word: Word, span: _Span) -> Word:
    """A word of a span, with times in the utterance."""
    offset = ms(span[0])
    return Word(word.word, offset + word.start_ms, offset + word.end_ms, word.confidence)

"""One utterance: its audio, the decodes it waits for, and its final."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from backends.base import ASRResult, EngineError, StreamOptions, Word
from backends.whisper.decoders import Decoders, Job, Outcome
from backends.whisper.recording import PAUSING, Recording
from backends.whisper.scheduler import Kind
from backends.whisper.transcription import Request
from protocol.pcm import SAMPLE_RATE, Signal, ms

KNOWN_LANGUAGE_SECONDS = 2.0
"""Audio after which partials keep the language that was detected: it was right for 8 of 9 languages then."""

_Span = tuple[int, int]
"""First sample, and the one behind the last."""


class WhisperStream:
    """An `ASRStream`. Nothing in it waits: jobs are left with the decoders, whose threads hand in the outcomes.

    It is decoded in spans of at most 29 s, nearly always one. A span that is closed, because more audio follows, is
    decoded at once; the last when the speaker pauses or the utterance ends. On an idle core it is decoded as soon as
    the sound ends: if the speaker goes on, that was a partial.
    """

    def __init__(self, decoders: Decoders, options: StreamOptions) -> None:
        self._decoders = decoders
        self._options = options
        self._lock = threading.Lock()
        """Of all below, between the session's thread and the decoders'. The decoders' own is only taken within."""
        self._recording = Recording()
        self._language = options.language
        """Of partials: forced, or detected with enough audio."""
        self._partial: Job | None = None
        """In work or queued; dropped when done, since it refers to this stream."""
        self._partial_span: _Span = (0, 0)
        """What it covers."""
        self._decoded_to = 0
        """Samples that the newest partial or early final was begun for."""
        self._shown_to = 0
        """Samples that the newest hypothesis covers."""
        self._early: tuple[Job, _Span] | None = None
        """The newest final that was begun before the pause; also when it is no longer wanted."""
        self._final_jobs: dict[_Span, Job] = {}
        self._finals: dict[_Span, Outcome] = {}
        self._news: ASRResult | None = None
        """The newest hypothesis, until it is taken."""
        self._has_text = False
        self._paused = False
        self._error: EngineError | None = None
        self._wanted: int | None = None
        """Samples of the finished utterance."""
        self._over = False
        """Delivered or cancelled."""
        self._future: Future[ASRResult] = Future()
        if options.live:
            decoders.live_opened()

    def push(self, samples: Signal) -> None:
        """See `ASRStream`; after `finish` or `cancel` it does nothing."""
        with self._lock:
            if self._over or self._wanted is not None or not len(samples):
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
            if self._over or self._wanted is not None:
                return None
            if self._error is not None:
                raise self._error
            news, self._news = self._news, None
            return news

    def pause(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if self._over or self._wanted is not None or not self._options.live:
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
            if self._over and self._wanted is None:
                return self._future
            if self._wanted is not None or not 0 <= samples <= len(self._recording):
                raise ValueError(f"cannot finish at {samples} of {len(self._recording)} samples")
            self._wanted = samples
            self._drop_partial()
            needed = self._needed(samples)
            self._keep_finals(needed)
            self._decode_spans(needed)
        self._deliver()
        return self._future

    def cancel(self) -> None:
        """See `ASRStream`."""
        with self._lock:
            if self._over:
                return
            self._close()
        # Not under the lock, like all that settles the future: its callbacks may call a stream.
        if self._future.cancel():
            self._future.set_running_or_notify_cancel()

    def _ask_for_partial(self) -> None:
        """Queue a partial if there is enough new audio. Caller holds the lock, as of all below that do not take it."""
        if not self._options.live or self._partial is not None or self._paused or self._error is not None:
            return
        seconds = max(self._decoders.partial_spacing(first=not self._has_text), self._options.partial_ms / 1000)
        length = len(self._recording)
        if length - self._decoded_to < seconds * SAMPLE_RATE or not self._recording.audible(length):
            return
        if self._has_text and self._recording.quiet() >= PAUSING:
            return
        job = Job(Kind.PARTIAL, self._partial_request, self._partial_done)
        if self._submit(job):
            self._partial = job

    def _partial_request(self) -> Request:
        """On a decoding thread: the newest audio."""
        with self._lock:
            self._partial_span = self._recording.spans(len(self._recording))[-1]
            self._decoded_to = self._partial_span[1]
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
        """Keep a hypothesis for `partial`; whether there is a new one."""
        said, (start, end) = outcome.transcript, span
        closed = [self._finals.get(each) for each in self._recording.spans(end)[:-1]]
        if not said.text or None in closed or end <= self._shown_to:
            return False  # noise, or the text before it is not there yet, or a newer one overtook it
        self._shown_to = end
        if end - start >= KNOWN_LANGUAGE_SECONDS * SAMPLE_RATE:
            self._language = said.language
        texts = [each.transcript.text for each in closed if each is not None]
        text = " ".join(filter(None, [*texts, said.text]))
        self._news = ASRResult(text, said.language, inference_seconds=outcome.seconds)
        self._has_text = True
        return True

    def _begin_early(self, span: _Span) -> None:
        """Begin the final of a span behind which it is quiet, if a core is idle."""
        length = len(self._recording)
        if not self._options.live or not self._has_text or span[1] == length:
            return  # without text a partial is due first, which is sooner there
        if span in self._final_jobs or span in self._finals:
            return
        if self._recording.audible(span[1]) and self._decoders.has_spare_core():
            self._drop_partial()
            self._decode_spans([span])
            self._decoded_to = span[1]
            if (job := self._final_jobs.get(span)) is not None:
                self._early = job, span

    def _needed(self, samples: int) -> list[_Span]:
        return self._recording.spans(samples) if self._recording.audible(samples) else []

    def _decode_spans(self, spans: list[_Span]) -> None:
        """Begin the finals that are neither there nor in work."""
        if not self._options.live and self._wanted is None:
            return
        for span in spans:
            if span in self._finals or span in self._final_jobs:
                continue
            kind = Kind.FINAL if self._options.live else Kind.FILE
            job = Job(kind, lambda span=span: self._final_request(span), self._final_done)  # type: ignore[misc]
            if self._submit(job):
                self._final_jobs[span] = job

    def _keep_finals(self, spans: list[_Span]) -> None:
        """Forget the finals of all other spans."""
        for span in self._final_jobs.keys() - set(spans):
            self._decoders.withdraw(self._final_jobs.pop(span))
        for span in self._finals.keys() - set(spans):
            del self._finals[span]

    def _final_request(self, span: _Span) -> Request:
        with self._lock:
            return self._request(span, self._options.language)

    def _final_done(self, job: Job, outcome: Outcome | EngineError) -> None:
        with self._lock:
            span = next((span for span, its in self._final_jobs.items() if its is job), None)
            news = self._take_early(job, outcome)
            if span is not None:
                del self._final_jobs[span]
                if isinstance(outcome, EngineError):
                    self._error = outcome
                else:
                    self._finals[span] = outcome
        if news:
            self._options.notify()
        self._deliver()

    def _take_early(self, job: Job, outcome: Outcome | EngineError) -> bool:
        """Show an early final as a hypothesis, also if the speaker went on; whether it is a new one."""
        if self._early is None or self._early[0] is not job:
            return False
        span, self._early = self._early[1], None
        if self._over or self._wanted is not None or isinstance(outcome, EngineError):
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
        """Settle the future, if the utterance is finished and has an end."""
        with self._lock:
            if self._over or self._wanted is None:
                return
            needed = self._needed(self._wanted)
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
        said = [outcome.transcript for outcome in outcomes.values()]
        heard = next((each.language for each in said if each.text), self._options.language)
        timed = [_later(word, span) for span, each in outcomes.items() for word in each.transcript.words or ()]
        words = tuple(timed) if self._options.words else None
        text = " ".join(each.text for each in said if each.text)
        return ASRResult(text, heard, words, sum(outcome.seconds for outcome in outcomes.values()))

    def _drop_partial(self) -> None:
        if self._partial is not None:
            self._decoders.withdraw(self._partial)
            self._partial = None

    def _close(self) -> None:
        """Nothing more is wanted: whatever is in work is not waited for."""
        self._over = True
        self._drop_partial()
        self._keep_finals([])
        if self._options.live:
            self._decoders.live_closed()


def _later(word: Word, span: _Span) -> Word:
    """A word of a span, timed in the utterance."""
    offset = ms(span[0])
    return Word(word.word, offset + word.start_ms, offset + word.end_ms, word.confidence)

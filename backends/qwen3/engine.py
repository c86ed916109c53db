"""The engine that all streams share: decodes are begun and dropped from any thread, and served by one model."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable

import structlog

from backends.base import EngineError
from backends.qwen3.desk import LOOK_SECONDS, Desk, Order, Result
from backends.qwen3.life import Life
from backends.qwen3.load import Load
from backends.qwen3.model import Answer, Model, Request, Vocabulary
from backends.qwen3.options import Qwen3Options
from backends.qwen3.schedule import Purpose
from backends.qwen3.work import Done, Ledger, WorkReport


class Engine:
    """One model for everyone. All methods are for any thread; none but `start` and `close` waits."""

    def __init__(
        self, options: Qwen3Options, build: Callable[[Qwen3Options], Model], on_done: Callable[[Done], None]
    ) -> None:
        """Prepare an engine; `start` starts it. See `Qwen3Backend` for the arguments."""
        self._options = options
        self._on_done = on_done
        self._life = Life(options, build, self._serve)
        self._lock = threading.Lock()
        """Of everything below; nothing is called back under it."""
        self._numbers = itertools.count(1)
        self._load = Load(options.max_num_seqs, options.refresh_seconds, options.refresh_spread)
        self._ledger = Ledger()
        self._orders: dict[int, Order] = {}
        """Begun, and neither done nor dropped."""
        self._model: Model | None = None
        """The one that serves."""
        self._desk: Desk | None = None
        self._vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's; there once it started."""
        if self._vocabulary is None:
            raise EngineError("the engine has not started")
        return self._vocabulary

    def start(self) -> None:
        """See `Life.start`."""
        self._life.start()

    def close(self) -> None:
        """End the processes and the thread; what is in work fails. Idempotent."""
        self._life.close()

    def healthy(self) -> bool:
        """Whether an order would be served now."""
        model = self._model
        return model is not None and not model.dead

    def spacing(self) -> int | None:
        """See `Load.spacing`."""
        with self._lock:
            return self._load.spacing()

    def work(self) -> WorkReport:
        """All work so far."""
        with self._lock:
            return self._ledger.report(self._load.taken)

    def submit(self, purpose: Purpose, request: Request, new_audio: float, done: Callable[[Result], None]) -> Order:
        """Begin a decode, of which `new_audio` seconds of audio were never sent before.

        `done` is called once, on the engine's loop, unless the order is dropped first.

        Raises:
            EngineError: there is no engine now.
        """
        with self._lock:
            desk = self._desk
            if desk is None or not self.healthy():
                raise EngineError("the engine is not running")
            order = Order(next(self._numbers), purpose, request, done)
            self._orders[order.number] = order
            self._load.begun()
            self._ledger.began(purpose, new_audio)
            self._life.loop.call_soon_threadsafe(desk.take, order)
            return order

    def drop(self, order: Order) -> None:
        """Abort an order; nothing is called for it any more, unless that is already under way."""
        order.dropped = True
        with self._lock:
            if self._orders.pop(order.number, None) is None:
                return
            self._load.ended()
            self._ledger.dropped()
            if self._desk is not None:
                self._life.loop.call_soon_threadsafe(self._desk.drop, order)

    async def _serve(self, model: Model) -> None:
        desk = Desk(model, self._options.max_inference_batch_size, self._ended)
        serving = asyncio.create_task(desk.run())
        with self._lock:
            self._model, self._desk, self._vocabulary = model, desk, model.vocabulary
        self._life.warm()
        hung = False
        while not (self._life.closing.is_set() or model.dead or hung or serving.done()):
            await self._life.rest(LOOK_SECONDS)
            hung = desk.look()
        reason = "was closed" if self._life.closing.is_set() else "hung" if hung else "died"
        with self._lock:
            self._model = self._desk = None
            orders = list(self._orders.values())
        if not self._life.closing.is_set():
            structlog.get_logger().error("engine_lost", reason=reason, orders=len(orders))
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        for order in orders:
            self._ended(order, EngineError(f"the engine {reason}"))

    def _ended(self, order: Order, result: Result) -> None:
        done = Done(order.purpose, result, order.took) if isinstance(result, Answer) else None
        with self._lock:
            if self._orders.pop(order.number, None) is None:
                return
            self._load.ended()
            if done is not None:
                self._ledger.ended(done)
                if done.purpose is Purpose.REFRESH:
                    self._load.refreshed(done.took.total)
        if done is not None:
            self._on_done(done)
        order.done(result)

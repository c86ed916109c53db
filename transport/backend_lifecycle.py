"""The one backend of this process: loaded on a thread of its own, watched, closed once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

import structlog

from backends.base import ASRBackend, EngineError

BackendStatus = Literal["loading", "ok", "dead"]


class BackendLifecycle:
    """Owns the one backend of this process."""

    def __init__(
        self,
        backend: ASRBackend,
        on_ready: Callable[[], None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_ready` and `on_failure` are called once, on the loading thread, when the first load has ended."""
        self.backend = backend
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._loaded = False
        self._closed = False
        self._loader = threading.Thread(target=self._load, name="engine-load", daemon=True)

    def start(self) -> None:
        """Begin loading; returns at once."""
        self._loader.start()

    @property
    def status(self) -> BackendStatus:
        """`loading`, `ok`, or `dead`; any thread."""
        if not self._loaded and not self._closed:
            return "loading"
        return "ok" if not self._closed and self.backend.healthy() else "dead"

    def close(self) -> None:
        """End the backend and the loading thread; blocks until they have. Idempotent."""
        self._closed = True
        self.backend.close()
        if self._loader.ident is not None:
            self._loader.join()

    def _load(self) -> None:
        log = structlog.get_logger().bind(backend=self.backend.name)
        try:
            self.backend.start()
        except Exception as error:  # whatever an engine raises, the process must end and say so
            if not self._closed:
                # An engine's own error says what to do; a traceback would hide it.
                log.exception("engine_failed_to_load", reason=str(error), exc_info=not isinstance(error, EngineError))
                self.backend.close()
                self._on_failure()
            return
        if self._closed:
            return
        self._loaded = True
        log.info("engine_ready")
        self._on_ready()

"""What goes by reference counts alone, and what stays until Python looks for circles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nobody_looks() -> Iterator[None]:
    """Python looks for circles before, and not while the context lasts."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

"""Errors that are kept after they were raised."""

from __future__ import annotations

from typing import TypeVar

_Error = TypeVar("_Error", bound=BaseException)


def without_traceback(error: _Error) -> _Error:
    """The error without traceback and causes, whose frames would keep objects alive, often in a reference cycle."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)

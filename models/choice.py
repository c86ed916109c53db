"""Chooses the model that a machine should run."""

from __future__ import annotations

from collections.abc import Sequence

from models.table import Model

LIVE_CORES = 0.8
"""Most core-seconds for a second of live speech. The decodes of a stream run one after another on one core, and the
rest of the core's time keeps finals in time."""


def best(there: Sequence[Model], *, gpu: bool) -> Model | None:
    """The most accurate multilingual model that is fast enough for one live speaker; None: there is no model.

    `there` are the models on disk, least accurate first. A GPU is fast enough for every model. If none is known to be
    fast enough, the smallest is chosen. A model for English only is chosen if there is no other.
    """
    candidates = [model for model in there if model.multilingual] or list(there)
    carried = [model for model in candidates if gpu or _cost(model) <= LIVE_CORES]
    if carried:
        return carried[-1]
    return min(candidates, key=lambda model: model.size, default=None)


def _cost(model: Model) -> float:
    return float("inf") if model.cpu_seconds is None else model.cpu_seconds

"""Which model a machine should run, decided from facts alone."""

from __future__ import annotations

from collections.abc import Sequence

from models.table import Model

LIVE_CORES = 0.8
"""Core-seconds a second of speech that one live speaker may cost: the decodes of a stream follow one another on one
core, and what is left over keeps finals in time."""


def best(there: Sequence[Model], *, gpu: bool) -> Model | None:
    """The most accurate multilingual model that the machine carries for one live speaker; None: there is no model.

    `there` are the models on disk, least accurate first. A GPU carries every model. Where no model is known to be
    carried, the smallest is taken. A model for English only is taken where there is no other.
    """
    candidates = [model for model in there if model.multilingual] or list(there)
    carried = [model for model in candidates if gpu or _cost(model) <= LIVE_CORES]
    if carried:
        return carried[-1]
    return min(candidates, key=lambda model: model.size, default=None)


def _cost(model: Model) -> float:
    return float("inf") if model.cpu_seconds is None else model.cpu_seconds

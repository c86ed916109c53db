"""Why a model is not here; each text is one plain sentence."""

from __future__ import annotations


class ModelFault(Exception):
    """A model cannot be had; the text says what to do."""


class UnknownModel(ModelFault):
    """The table has no model of that name."""


class ModelMissing(ModelFault):
    """The model is not on this machine."""


class PullFailed(ModelFault):
    """No source could give the model, or the disk could not take it."""


class WrongDigest(PullFailed):
    """A file is not the one that the table or the hub's metadata names; it was deleted."""


class SourceUnavailable(Exception):
    """One source does not have the model or cannot be reached; the text is a clause that says why."""

"""Errors about models. Each text is one sentence."""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be provided. The text says what to do."""


class UnknownModel(ModelError):
    """The table has no model of that name."""


class ModelMissing(ModelError):
    """The model is not on this machine."""


class PullFailed(ModelError):
    """No source could give the model, or the disk could not take it."""


class WrongDigest(PullFailed):
    """A file is not the one that the table or the hub's metadata names; it was deleted."""


class SourceUnavailable(Exception):
    """One source does not have the model or cannot be reached; the text is a clause that says why."""

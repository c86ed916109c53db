"""Whisper models: which exist, which are on this machine, and how to fetch them. Imports no other package of ours."""

from models.choice import best
from models.errors import ModelError, ModelMissing, PullFailed, UnknownModel, WrongDigest
from models.puller import pull
from models.store import default_model_dir, folder, locate, on_disk, path, remove
from models.table import TABLE, Model, find

__all__ = [
    "TABLE",
    "Model",
    "ModelError",
    "ModelMissing",
    "PullFailed",
    "UnknownModel",
    "WrongDigest",
    "best",
    "default_model_dir",
    "find",
    "folder",
    "locate",
    "on_disk",
    "path",
    "pull",
    "remove",
]

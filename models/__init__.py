"""Models: what there is, where it is on this machine, and how it gets there. Imports no other package of ours."""

from models.choice import best
from models.faults import ModelFault, ModelMissing, PullFailed, UnknownModel, WrongDigest
from models.puller import pull
from models.store import default_model_dir, folder, locate, on_disk, path, remove
from models.table import TABLE, Model, find

__all__ = [
    "TABLE",
    "Model",
    "ModelFault",
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

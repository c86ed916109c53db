"""Train the tiny checkpoint: `python -m references.train_tiny_qwen3 references/tiny-qwen3-asr`, by hand.

Needs the environment of `make test-engine`, and a quarter of an hour on one core. The same machine and versions write
the same bytes every time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from references import tiny_checkpoint
from references.tiny_lessons import Batch, Teacher
from references.tiny_model import Pupil

AUDIO_SECONDS = 48.0
"""In a batch."""
MOST_LESSONS = 32
"""In a batch."""
SHORTEST = 1.0
"""Seconds of a lesson."""
LONGEST = 20.0
"""Seconds of a lesson, once the pupil is used to shorter ones."""
WARM_UP = 50
"""Steps until the learning rate is at its peak."""
DECAY = 0.4
"""Last part of a term, in which the learning rate falls to nothing."""


@dataclass(frozen=True, slots=True)
class Term:
    """One subject, taught for some time."""

    name: str
    steps: int
    rate: float
    """Peak of the learning rate."""
    ramp: float
    """First part of the term, in which lessons grow from short to long."""

    def longest(self, step: int) -> float:
        """Seconds that a lesson may last."""
        return SHORTEST + (LONGEST - SHORTEST) * min(1.0, (step + WARM_UP) / (self.steps * self.ramp + WARM_UP))

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate * min(1.0, (step + 1) / WARM_UP, (1 - step / self.steps) / DECAY)


HEARING = Term("hearing", 400, 3e-3, ramp=0.25)
WRITING = Term("writing", 2400, 2e-3, ramp=0.4)
"""The ear is left as it is meanwhile: that takes half of the work out of a step."""


def teach(term: Term, teacher: Teacher, pupil: list[nn.Parameter], loss_of: Callable[[Batch], torch.Tensor]) -> None:
    """Change the `pupil` so that the loss falls, batch by batch."""
    optimiser = torch.optim.AdamW(pupil, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(0)
    began = time.monotonic()
    for step in range(term.steps):
        for group in optimiser.param_groups:
            group["lr"] = term.rate_at(step)
        seconds = rng.uniform(SHORTEST, term.longest(step))
        loss = loss_of(teacher.batch(min(MOST_LESSONS, int(AUDIO_SECONDS / seconds)), seconds))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(pupil, 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0:
            elapsed = time.monotonic() - began
            say(f"{term.name} step {step + 1} of {term.steps}, {elapsed:.0f} s: loss {loss:.3f} at {seconds:.0f} s")


def examine(pupil: Pupil, teacher: Teacher) -> None:
    """Say how many lessons it gets right that it has not heard."""
    for seconds in (2, 8, 20):
        batch = teacher.batch(100, seconds)
        say(f"{100 - pupil.mistaken(batch)} of 100 lessons of {seconds} s right")


def say(line: str) -> None:
    """Print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Train, examine and write."""
    parser = argparse.ArgumentParser(description="Train a tiny Qwen3-ASR to hear ten tones as the words one to ten.")
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    folder: Path = parser.parse_args().folder
    torch.set_num_threads(1)  # for the order of sums, and the neighbours
    torch.manual_seed(0)
    tokenizer = tiny_checkpoint.vocabulary()
    teacher = Teacher(tokenizer, seed=1)
    pupil = Pupil(tokenizer.get_vocab())
    teach(HEARING, teacher, pupil.ear, pupil.hearing_loss)
    teach(WRITING, teacher, pupil.writer, pupil.writing_loss)
    examine(pupil, Teacher(tokenizer, seed=2))
    tiny_checkpoint.write(folder, tokenizer, pupil.weights)


if __name__ == "__main__":
    main()

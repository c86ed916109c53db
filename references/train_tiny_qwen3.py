"""Train the tiny checkpoint: `python -m references.train_tiny_qwen3 references/tiny-qwen3-asr`, by hand.

It needs the environment of `make test-engine`, and takes a quarter of an hour on one core. The same machine and
versions write the same bytes every time.
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
from references.tiny_model import TrainingModel
from references.tiny_training_data import Batch, BatchGenerator

MAX_BATCH_SECONDS = 48.0
MAX_BATCH_SIZE = 32
MIN_EXAMPLE_SECONDS = 1.0
MAX_EXAMPLE_SECONDS = 20.0
WARM_UP_STEPS = 50
"""The learning rate rises to its peak during these steps."""
DECAY_FRACTION = 0.4
"""The learning rate falls to zero during this last part of a phase."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the training, which trains one part of the model."""

    name: str
    steps: int
    peak_learning_rate: float
    curriculum_fraction: float
    """The longest examples grow from short to long during this first part of the phase."""

    def max_example_seconds(self, step: int) -> float:
        """Return the length that examples may have in a step."""
        return MIN_EXAMPLE_SECONDS + (MAX_EXAMPLE_SECONDS - MIN_EXAMPLE_SECONDS) * min(
            1.0, (step + WARM_UP_STEPS) / (self.steps * self.curriculum_fraction + WARM_UP_STEPS)
        )

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.peak_learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS, (1 - step / self.steps) / DECAY_FRACTION)


ENCODER_PHASE = Phase("encoder", 400, 3e-3, curriculum_fraction=0.25)
DECODER_PHASE = Phase("decoder", 2400, 2e-3, curriculum_fraction=0.4)
"""The encoder is frozen in this phase, because a step then takes half of the time."""


def train(
    phase: Phase,
    generator: BatchGenerator,
    parameters: list[nn.Parameter],
    loss_function: Callable[[Batch], torch.Tensor],
) -> None:
    """Train the parameters for one phase."""
    optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(0)
    start = time.monotonic()
    for step in range(phase.steps):
        for group in optimiser.param_groups:
            group["lr"] = phase.learning_rate(step)
        seconds = rng.uniform(MIN_EXAMPLE_SECONDS, phase.max_example_seconds(step))
        loss = loss_function(generator.batch(min(MAX_BATCH_SIZE, int(MAX_BATCH_SECONDS / seconds)), seconds))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0:
            elapsed = time.monotonic() - start
            log(f"{phase.name} step {step + 1} of {phase.steps}, {elapsed:.0f} s: loss {loss:.3f} at {seconds:.0f} s")


def evaluate(model: TrainingModel, generator: BatchGenerator) -> None:
    """Print how many of 100 new examples of each length the model transcribes without an error."""
    for seconds in (2, 8, 20):
        batch = generator.batch(100, seconds)
        log(f"{100 - model.count_wrong_examples(batch)} of 100 examples of {seconds} s right")


def log(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Train and evaluate the model, and write the checkpoint."""
    parser = argparse.ArgumentParser(description="Train a tiny Qwen3-ASR to transcribe ten tones as one to ten.")
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    folder: Path = parser.parse_args().folder
    torch.set_num_threads(1)  # A fixed order of additions makes the bytes reproducible.
    torch.manual_seed(0)
    tokenizer = tiny_checkpoint.vocabulary()
    generator = BatchGenerator(tokenizer, seed=1)
    model = TrainingModel(tokenizer.get_vocab())
    train(ENCODER_PHASE, generator, model.encoder_parameters, model.encoder_loss)
    train(DECODER_PHASE, generator, model.decoder_parameters, model.decoder_loss)
    evaluate(model, BatchGenerator(tokenizer, seed=2))
    tiny_checkpoint.write(folder, tokenizer, model.weights)


if __name__ == "__main__":
    main()

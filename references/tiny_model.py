"""The model of the tiny checkpoint while it learns: an ear, a writer, and a loss for each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.models.qwen3_asr import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration

from references.tiny_checkpoint import AUDIO, DECODER, ENCODER, END, PAD, ROPE_THETA
from references.tiny_lessons import IGNORED, PAST, SOUNDS, Batch
from tests.qwen3.tones import WORDS

PLACING_LAYER = 2
"""After so many of the writer's layers every token should know its place; the others then find the word at a place."""
PLACES = [64, *[1 + len(WORDS)] * PAST]
"""Values of each part of a place. No 20 s hold 60 words."""


class Pupil:
    """Qwen3-ASR, and two heads that make it learn in minutes and are thrown away.

    One names the sound of each audio token. The other reads a token's place from its state. Audio and text share it,
    so both come to write places in the same way, and a text token finds its word by that. Without it, the writer has
    to discover by itself how not to lose its place.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        """`ids`: the vocabulary."""
        rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
        config = Qwen3ASRConfig(
            audio_config=dict(ENCODER),
            text_config={**DECODER, "vocab_size": len(ids), "rope_parameters": rope},
            audio_token_id=ids[AUDIO],
            pad_token_id=ids[PAD],
            eos_token_id=ids[END],
            tie_word_embeddings=False,
        )
        self._audio = ids[AUDIO]
        self._model = Qwen3ASRForConditionalGeneration(config)
        self._namer = nn.Linear(config.audio_config.output_dim, SOUNDS)
        self._placer = nn.Linear(config.text_config.hidden_size, sum(PLACES))

    @property
    def ear(self) -> list[nn.Parameter]:
        """What learns to hear: the encoder, its projection and its head."""
        model = self._model.model
        return _parameters(model.audio_tower, model.multi_modal_projector, self._namer)

    @property
    def writer(self) -> list[nn.Parameter]:
        """What learns to write: the decoder and its heads."""
        return _parameters(self._model.model.language_model, self._model.lm_head, self._placer)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The model's own, as transformers names them."""
        weights: dict[str, torch.Tensor] = self._model.state_dict()
        return weights

    def hearing_loss(self, batch: Batch) -> torch.Tensor:
        """How badly the ear names sounds."""
        return cross_entropy(self._namer(self._hear(batch)), batch.sounds)

    def writing_loss(self, batch: Batch) -> torch.Tensor:
        """How badly the writer writes, and knows its place on the way. The ear does not learn from it."""
        states = self._states(batch)
        asked = batch.labels != IGNORED
        written = cross_entropy(self._model.lm_head(states[-1][asked]), batch.labels[asked])
        placed = batch.places[..., 0] != IGNORED
        count, *past = self._placer(states[PLACING_LAYER][placed]).split(PLACES, -1)
        targets = batch.places[placed].unbind(-1)
        return written + sum(map(cross_entropy, (count, *past), targets))

    def mistaken(self, batch: Batch) -> int:
        """Lessons of which greedy decoding would get a token wrong: one is wrong given the right ones before it."""
        with torch.no_grad():
            chosen = self._model.lm_head(self._states(batch)[-1]).argmax(-1)
        return int(((chosen != batch.labels) & (batch.labels != IGNORED)).any(-1).sum())

    def _hear(self, batch: Batch) -> torch.Tensor:
        """What the writer is given of each audio token: [audio tokens of all items, hidden_size]."""
        heard: torch.Tensor = self._model.get_audio_features(batch.mels, batch.mel_mask, return_dict=True).pooler_output
        return heard

    def _states(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Of the embeddings and after each of the writer's layers, the last normed: [lessons, tokens, hidden_size]."""
        with torch.no_grad():
            heard = self._hear(batch)
        embedded = self._model.get_input_embeddings()(batch.tokens)
        places = (batch.tokens == self._audio).unsqueeze(-1).expand_as(embedded)
        states: tuple[torch.Tensor, ...] = self._model.model.language_model(
            inputs_embeds=embedded.masked_scatter(places, heard), use_cache=False, output_hidden_states=True
        ).hidden_states
        return states


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]

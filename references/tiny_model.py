"""The model of the tiny checkpoint during its training: Qwen3-ASR with two auxiliary heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.models.qwen3_asr import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration

from references.tiny_checkpoint import (
    AUDIO_TOKEN,
    DECODER_CONFIG,
    ENCODER_CONFIG,
    END_TOKEN,
    PAD_TOKEN,
    ROPE_THETA,
)
from references.tiny_training_data import IGNORE_INDEX, PREVIOUS_WORDS, SOUND_CLASSES, Batch
from tests.qwen3.tones import WORDS

ALIGNMENT_LAYER = 2
"""The alignment head reads the hidden states after this decoder layer; the later layers use the alignment."""
ALIGNMENT_CLASSES = [64, *[1 + len(WORDS)] * PREVIOUS_WORDS]
"""Number of classes of each alignment label. An example of 20 s has fewer than 60 words."""


class TrainingModel:
    """Qwen3-ASR with two auxiliary heads, which shorten the training to minutes and are not saved.

    The sound head classifies each audio token. The alignment head predicts from a token's hidden state which word the
    token belongs to. It is the same head for audio and text, so a word's audio and its text get similar states, and
    the decoder can attend from one to the other. Without this head the decoder would have to discover the alignment
    by itself.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        """`vocabulary` maps each token to its id."""
        rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
        config = Qwen3ASRConfig(
            audio_config=dict(ENCODER_CONFIG),
            text_config={**DECODER_CONFIG, "vocab_size": len(vocabulary), "rope_parameters": rope},
            audio_token_id=vocabulary[AUDIO_TOKEN],
            pad_token_id=vocabulary[PAD_TOKEN],
            eos_token_id=vocabulary[END_TOKEN],
            tie_word_embeddings=False,
        )
        self._audio_token_id = vocabulary[AUDIO_TOKEN]
        self._model = Qwen3ASRForConditionalGeneration(config)
        self._sound_head = nn.Linear(config.audio_config.output_dim, SOUND_CLASSES)
        self._alignment_head = nn.Linear(config.text_config.hidden_size, sum(ALIGNMENT_CLASSES))

    @property
    def encoder_parameters(self) -> list[nn.Parameter]:
        """The parameters of the encoder, its projection and the sound head."""
        model = self._model.model
        return _parameters(model.audio_tower, model.multi_modal_projector, self._sound_head)

    @property
    def decoder_parameters(self) -> list[nn.Parameter]:
        """The parameters of the decoder, the language model's head and the alignment head."""
        return _parameters(self._model.model.language_model, self._model.lm_head, self._alignment_head)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The weights without those of the auxiliary heads, by their names in transformers."""
        weights: dict[str, torch.Tensor] = self._model.state_dict()
        return weights

    def encoder_loss(self, batch: Batch) -> torch.Tensor:
        """Return the cross entropy of the sound head."""
        return cross_entropy(self._sound_head(self._audio_embeddings(batch)), batch.sound_labels)

    def decoder_loss(self, batch: Batch) -> torch.Tensor:
        """Return the cross entropy of the text and of the alignment. It has no gradient in the encoder."""
        hidden_states = self._hidden_states(batch)
        labelled = batch.labels != IGNORE_INDEX
        text_loss = cross_entropy(self._model.lm_head(hidden_states[-1][labelled]), batch.labels[labelled])
        aligned = batch.alignment_labels[..., 0] != IGNORE_INDEX
        logits = self._alignment_head(hidden_states[ALIGNMENT_LAYER][aligned]).split(ALIGNMENT_CLASSES, -1)
        return text_loss + sum(map(cross_entropy, logits, batch.alignment_labels[aligned].unbind(-1)))

    def count_wrong_examples(self, batch: Batch) -> int:
        """Return the number of examples in which greedy decoding gets a token wrong.

        Each token is predicted from the correct tokens before it. The first error is therefore found, and later ones
        do not matter.
        """
        with torch.no_grad():
            predictions = self._model.lm_head(self._hidden_states(batch)[-1]).argmax(-1)
        return int(((predictions != batch.labels) & (batch.labels != IGNORE_INDEX)).any(-1).sum())

    def _audio_embeddings(self, batch: Batch) -> torch.Tensor:
        """Return the decoder's input for the audio: [audio tokens of all items, hidden_size]."""
        embeddings: torch.Tensor = self._model.get_audio_features(
            batch.mels, batch.mel_mask, return_dict=True
        ).pooler_output
        return embeddings

    def _hidden_states(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return the embeddings and the output of each decoder layer, each [examples, tokens, hidden_size].

        The last one is normalised.
        """
        with torch.no_grad():
            audio_embeddings = self._audio_embeddings(batch)
        embeddings = self._model.get_input_embeddings()(batch.tokens)
        audio_mask = (batch.tokens == self._audio_token_id).unsqueeze(-1).expand_as(embeddings)
        hidden_states: tuple[torch.Tensor, ...] = self._model.model.language_model(
            inputs_embeds=embeddings.masked_scatter(audio_mask, audio_embeddings),
            use_cache=False,
            output_hidden_states=True,
        ).hidden_states
        return hidden_states


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]

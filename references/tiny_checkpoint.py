"""Writes the files of the tiny checkpoint: configuration, tokenizer and weights.

The folder has the layout of Qwen/Qwen3-ASR-1.7B (`thinker_config`, tensors named `thinker.*`), so an engine that loads
that model also loads this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from backends.qwen3.languages import NAMES
from tests.qwen3.tones import RATE, WORDS

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
PAD_TOKEN, _, END_TOKEN, AUDIO_START_TOKEN, AUDIO_END_TOKEN, AUDIO_TOKEN = SPECIAL_TOKENS
TEXT_TAG = "<asr_text>"
"""It is no special token, as in the real vocabulary: the text of decoded tokens contains it."""
WORD_TOKENS = ("system", "user", "assistant", "language", " English", " None", *(f" {word}" for word in WORDS))
"""Each of these is one token, with and without the leading space. All other text is encoded as bytes."""

ENCODER_CONFIG = {
    "num_mel_bins": 128,
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "downsample_hidden_size": 16,
    "output_dim": 128,
    "n_window": 50,
    "n_window_infer": 800,
    "activation_function": "gelu",
    "scale_embedding": False,
    "dropout": 0,
    "attention_dropout": 0,
    "activation_dropout": 0,
}
"""The mel bins, chunks of 2 * 50 frames and windows of 800 frames are the real model's. The other sizes are smaller."""
DECODER_CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 65_536,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "use_cache": True,
}
ROPE_THETA = 10_000.0
"""The real model has a million, which half a minute of tones does not need."""
_MROPE_SECTIONS = (6, 5, 5)
"""Numbers of rotary dimension pairs for time, height and width. For audio these three positions are equal."""

_TENSOR_PREFIXES = {
    "model.audio_tower.": "thinker.audio_tower.",
    "model.multi_modal_projector.linear_1.": "thinker.audio_tower.proj1.",
    "model.multi_modal_projector.linear_2.": "thinker.audio_tower.proj2.",
    "model.language_model.": "thinker.model.",
    "lm_head.": "thinker.lm_head.",
}
"""Maps the prefixes of tensor names in transformers to those in Qwen's checkpoint."""


def vocabulary() -> Tokenizer:
    """Return a byte-level BPE tokenizer with the words of WORD_TOKENS and the special tokens."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for text in WORD_TOKENS:
        word = text.strip()
        merges |= dict.fromkeys((word[:end], word[end]) for end in range(1, len(word)))
        if text != word:
            merges["Ġ", word] = None  # A byte-level vocabulary writes a space like this.
    tokens += ["".join(merge) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(TEXT_TAG, special=False, normalized=False)])
    return tokenizer


def write(folder: Path, tokenizer: Tokenizer, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the checkpoint in bfloat16. The `weights` have their names in transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = tokenizer.get_vocab()
    ends = [ids[END_TOKEN], ids[PAD_TOKEN]]
    for name, values in (
        ("config", _config(ids)),
        ("generation_config", {"do_sample": False, "eos_token_id": ends, "pad_token_id": ids[PAD_TOKEN]}),
        ("preprocessor_config", _preprocessor_config()),
        ("tokenizer_config", _tokenizer_config(ids)),
    ):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    renamed = {}
    for name, tensor in weights.items():
        ((old, new),) = ((old, new) for old, new in _TENSOR_PREFIXES.items() if name.startswith(old))
        renamed[new + name.removeprefix(old)] = tensor.detach().to(torch.bfloat16).contiguous()
    save_file(renamed, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _config(ids: Mapping[str, int]) -> dict[str, Any]:
    encoder = {
        "model_type": "qwen3_asr_audio_encoder",
        "max_source_positions": 1500,
        "conv_chunksize": 500,
        **ENCODER_CONFIG,
    }
    rope = {"rope_type": "default", "type": "default", "mrope_interleaved": True, "interleaved": True}
    decoder = {
        "model_type": "qwen3",
        "vocab_size": len(ids),
        "rope_theta": ROPE_THETA,
        "rope_scaling": {"mrope_section": _MROPE_SECTIONS, **rope},
        **DECODER_CONFIG,
    }
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": list(NAMES.values()),
        "thinker_config": {
            "model_type": "qwen3_asr",
            "audio_config": encoder,
            "text_config": decoder,
            "audio_token_id": ids[AUDIO_TOKEN],
            "audio_start_token_id": ids[AUDIO_START_TOKEN],
            "audio_end_token_id": ids[AUDIO_END_TOKEN],
            "dtype": "bfloat16",
        },
    }


def _preprocessor_config() -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "Qwen3ASRProcessor",
        "feature_size": ENCODER_CONFIG["num_mel_bins"],
        "sampling_rate": RATE,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 30 * RATE,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "dither": 0.0,
        "return_attention_mask": True,
    }


def _tokenizer_config(ids: Mapping[str, int]) -> dict[str, Any]:
    audio = {"audio_token": AUDIO_TOKEN, "audio_bos_token": AUDIO_START_TOKEN, "audio_eos_token": AUDIO_END_TOKEN}
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    added_tokens = {
        str(ids[token]): {"content": token, "special": token != TEXT_TAG, **flags}
        for token in (*SPECIAL_TOKENS, TEXT_TAG)
    }
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added_tokens,
        "additional_special_tokens": SPECIAL_TOKENS[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_TOKEN,
        "errors": "replace",
        "extra_special_tokens": audio,
        "model_max_length": DECODER_CONFIG["max_position_embeddings"],
        "pad_token": PAD_TOKEN,
        "split_special_tokens": False,
        "unk_token": None,
        **audio,
    }

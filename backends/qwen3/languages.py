"""The 30 languages of Qwen3-ASR. Pure.

Source: `LANGUAGE_CODE_TO_NAME` in transformers' processing_qwen3_asr.py. The prompt needs the model's names; clients
send primary subtags.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "ar": "Arabic",
        "cs": "Czech",
        "da": "Danish",
        "de": "German",
        "el": "Greek",
        "en": "English",
        "es": "Spanish",
        "fa": "Persian",
        "fi": "Finnish",
        "fil": "Filipino",
        "fr": "French",
        "hi": "Hindi",
        "hu": "Hungarian",
        "id": "Indonesian",
        "it": "Italian",
        "ja": "Japanese",
        "ko": "Korean",
        "mk": "Macedonian",
        "ms": "Malay",
        "nl": "Dutch",
        "pl": "Polish",
        "pt": "Portuguese",
        "ro": "Romanian",
        "ru": "Russian",
        "sv": "Swedish",
        "th": "Thai",
        "tr": "Turkish",
        "vi": "Vietnamese",
        "yue": "Cantonese",
        "zh": "Chinese",
    }
)
"""Primary subtag of BCP 47 -> the name the model was trained with."""

ALIASES: Mapping[str, str] = MappingProxyType({"cmn": "zh", "tl": "fil"})
"""Other primary subtags of these languages (ISO 639-3 Mandarin, ISO 639-1 Tagalog) -> the subtag in `NAMES`."""

_CODES = {name.casefold(): code for code, name in NAMES.items()}


def name_of(code: str) -> str:
    """The model's name of a language, by its primary subtag or an alias.

    Raises:
        KeyError: the model does not have the language.
    """
    return NAMES[ALIASES.get(code, code)]


def codes(names: str) -> tuple[str, ...]:
    """Primary subtags of the names that the model wrote (`English`, `Chinese,English`); unknown names are left out."""
    known = (_CODES.get(name.strip().casefold()) for name in names.split(","))
    return tuple(code for code in known if code is not None)

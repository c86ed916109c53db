"""English names of languages, as OpenAI's answers have them. Pure.

Source: `LANGUAGES` in openai/whisper's tokenizer.py; `fil` and `jv`, which other engines use, besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "af": "afrikaans",
        "am": "amharic",
        "ar": "arabic",
        "as": "assamese",
        "az": "azerbaijani",
        "ba": "bashkir",
        "be": "belarusian",
        "bg": "bulgarian",
        "bn": "bengali",
        "bo": "tibetan",
        "br": "breton",
        "bs": "bosnian",
        "ca": "catalan",
        "cs": "czech",
        "cy": "welsh",
        "da": "danish",
        "de": "german",
        "el": "greek",
        "en": "english",
        "es": "spanish",
        "et": "estonian",
        "eu": "basque",
        "fa": "persian",
        "fi": "finnish",
        "fil": "filipino",
        "fo": "faroese",
        "fr": "french",
        "gl": "galician",
        "gu": "gujarati",
        "ha": "hausa",
        "haw": "hawaiian",
        "he": "hebrew",
        "hi": "hindi",
        "hr": "croatian",
        "ht": "haitian creole",
        "hu": "hungarian",
        "hy": "armenian",
        "id": "indonesian",
        "is": "icelandic",
        "it": "italian",
        "ja": "japanese",
        "jv": "javanese",
        "jw": "javanese",
        "ka": "georgian",
        "kk": "kazakh",
        "km": "khmer",
        "kn": "kannada",
        "ko": "korean",
        "la": "latin",
        "lb": "luxembourgish",
        "ln": "lingala",
        "lo": "lao",
        "lt": "lithuanian",
        "lv": "latvian",
        "mg": "malagasy",
        "mi": "maori",
        "mk": "macedonian",
        "ml": "malayalam",
        "mn": "mongolian",
        "mr": "marathi",
        "ms": "malay",
        "mt": "maltese",
        "my": "myanmar",
        "ne": "nepali",
        "nl": "dutch",
        "nn": "nynorsk",
        "no": "norwegian",
        "oc": "occitan",
        "pa": "punjabi",
        "pl": "polish",
        "ps": "pashto",
        "pt": "portuguese",
        "ro": "romanian",
        "ru": "russian",
        "sa": "sanskrit",
        "sd": "sindhi",
        "si": "sinhala",
        "sk": "slovak",
        "sl": "slovenian",
        "sn": "shona",
        "so": "somali",
        "sq": "albanian",
        "sr": "serbian",
        "su": "sundanese",
        "sv": "swedish",
        "sw": "swahili",
        "ta": "tamil",
        "te": "telugu",
        "tg": "tajik",
        "th": "thai",
        "tk": "turkmen",
        "tl": "tagalog",
        "tr": "turkish",
        "tt": "tatar",
        "uk": "ukrainian",
        "ur": "urdu",
        "uz": "uzbek",
        "vi": "vietnamese",
        "yi": "yiddish",
        "yo": "yoruba",
        "yue": "cantonese",
        "zh": "chinese",
    }
)
"""Primary subtag of BCP 47 -> name in lower case."""

SUBTAGS: Mapping[str, str] = MappingProxyType({name: subtag for subtag, name in NAMES.items()})
"""Name in lower case -> primary subtag."""


def language_name(subtag: str) -> str:
    """The name of a language; the subtag itself if its name is unknown."""
    return NAMES.get(subtag.lower(), subtag)


def language_tag(named: str) -> str:
    """The tag of a language given by its English name, in any case; other text unchanged."""
    return SUBTAGS.get(named.strip().lower(), named.strip())

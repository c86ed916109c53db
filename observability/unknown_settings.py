"""Finds environment variables that look like settings and are none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence


def unknown_settings(environment: Mapping[str, str], prefix: str, names: Sequence[str]) -> list[str]:
    """One sentence for each variable with the prefix that is not in `names` (upper case); it names the nearest one."""
    sentences = []
    for variable in sorted(environment):
        if variable.upper().startswith(prefix) and variable.upper() not in names:
            nearest = difflib.get_close_matches(variable.upper(), names, 1)
            sentences.append(f"{variable} is not a setting" + (f": did you mean {nearest[0]}?" if nearest else "."))
    return sentences

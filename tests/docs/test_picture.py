"""The picture of docs/endpointing.md."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ET

from tests.server import ROOT


def test_the_picture_shows_what_the_text_says() -> None:
    """Six utterances, and a fan that becomes the noise floor; the file in docs/ has the same elements."""
    script = runpy.run_path(str(ROOT / "docs" / "endpoints.py"))
    samples = script["audio"]()
    _, floor, _ = script["trace"](samples)
    fan = script["FAN_AT_MS"] // 20
    assert max(floor[:fan]) < 100
    assert 300 < floor[-1] < script["FAN_RMS"]

    drawn = ET.fromstring(script["draw"](samples))  # noqa: S314 - our own
    kept = ET.parse(ROOT / "docs" / "endpoints.svg").getroot()  # noqa: S314 - likewise
    voice = [each for each in drawn if each.get("fill") == script["COLOURS"][3] and each.get("y") != "14"]
    assert len(voice) == 6
    assert [each.tag for each in kept] == [each.tag for each in drawn]

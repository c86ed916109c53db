"""Texts of segments, joined as their scripts are written."""

from __future__ import annotations

import pytest

from protocol.unspaced_scripts import join_texts


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["one two", "", "three"], "one two three"),
        (["你好。", "再见"], "你好。再见"),
        (["こんにちは", "カタカナ"], "こんにちはカタカナ"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["བཀྲ་ཤིས།", "བདེ་ལེགས"], "བཀྲ་ཤིས།བདེ་ལེགས"),
        (["ｱｲｳ｡", "ｴｵ"], "ｱｲｳ｡ｴｵ"),
        (["안녕하세요", "여러분"], "안녕하세요 여러분"),
        (["Hello.", "你好"], "Hello.你好"),
        (["नमस्ते", "दुनिया"], "नमस्ते दुनिया"),
        ([], ""),
    ],
)
def test_joining(texts: list[str], joined: str) -> None:
    """Segments are joined with a blank, but for scripts that have no blanks between words."""
    assert join_texts(texts) == joined

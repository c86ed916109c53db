"""Whisper on CTranslate2, on a CPU or a GPU."""

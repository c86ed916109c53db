"""Measurements of the whisper engine by itself, without a server."""

"""Measurements of the server. Each package answers one question; see README.md."""

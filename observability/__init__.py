"""Logs and metrics; a leaf."""

"""Which version of this server runs."""

VERSION = "0.1.0"
"""The same as in pyproject.toml, which is not there in every installation."""

"""The version of this server."""

VERSION = "0.1.0"
"""Equal to the version in pyproject.toml, which not every installation has."""

"""Modules that all measurements share."""

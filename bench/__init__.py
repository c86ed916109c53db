"""Instruments: what the server costs, how much it carries, and how well it hears. See each module's `--help`."""

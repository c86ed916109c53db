"""The cost and the capacity of an engine."""

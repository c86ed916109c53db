"""The examples of the docs, checked and replayed."""

"""The embedded CPU engine: pocketsphinx in worker processes."""

"""Voice activity detection, segmentation into utterances, and the worker that turns a session's audio into events."""

"""Hearing: voice activity, utterance boundaries, and the loop that turns a speaker's audio into messages."""

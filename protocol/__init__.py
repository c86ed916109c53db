"""The wire: connect parameters, messages, errors and audio formats. Pure; imports nothing of this project."""

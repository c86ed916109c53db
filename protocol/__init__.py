"""Parameters, messages, errors and audio formats, as peers see them. Pure; imports no other package of ours."""

"""Whether utterances start and end where they should."""

"""The accuracy of endpoints: whether utterances start and end where they should."""

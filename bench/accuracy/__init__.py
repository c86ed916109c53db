"""The word error rate and the delays of a server on recordings."""

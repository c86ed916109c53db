"""How often a wrong label of a live stream is noticed."""

"""How accurate and how fast a server transcribes recordings."""

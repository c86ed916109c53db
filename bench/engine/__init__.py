"""What an engine costs."""

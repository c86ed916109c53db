"""How much load the server carries, and what a stream costs."""

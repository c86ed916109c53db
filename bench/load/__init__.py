"""The capacity of the server under load, and the cost of a stream."""

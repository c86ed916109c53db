"""The state of one connection. Pure: no clock, no thread, no I/O."""

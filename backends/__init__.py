"""Recognition engines, all with the interface in `backends.base`."""

"""Recognition engines behind one seam (`backends.base`)."""

"""Several servers behind HAProxy on one machine."""

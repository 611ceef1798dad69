"""Checkpoints of others and of our own: fetched, read, checked, shrunk."""

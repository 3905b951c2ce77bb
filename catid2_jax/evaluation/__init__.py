"""Recall, and the run files that it is computed from."""

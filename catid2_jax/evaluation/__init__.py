"""Recall and the run files it is computed from."""

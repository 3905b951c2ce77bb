"""Readers of other data formats, one per module, and the writer of the project's own format."""

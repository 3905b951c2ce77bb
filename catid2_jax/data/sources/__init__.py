"""Readers of the data that people have, one a module; all write the project's own format."""

"""Stage 2: a network learns query -> document ID."""

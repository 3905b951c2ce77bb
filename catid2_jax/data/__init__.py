"""Catalogues, queries and judgements, and their preparation for training."""

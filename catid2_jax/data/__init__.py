"""Catalogues, queries, judgements and what is made of them before training."""

"""Constrained decoding: a trie of document IDs and the beam search over it."""

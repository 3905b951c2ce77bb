"""Reads and writes checkpoints of T5X and Hugging Face, and adds the rows of ID tokens."""

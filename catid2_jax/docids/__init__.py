"""Document IDs: from latents to a table of unique codes, and the vocabulary that holds them."""

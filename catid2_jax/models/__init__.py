"""Networks, which return every intermediate and compute no loss."""

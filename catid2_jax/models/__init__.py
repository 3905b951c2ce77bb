"""Networks; they return every intermediate and compute no loss."""

"""The one training loop, the two steps it drives, and what they share."""

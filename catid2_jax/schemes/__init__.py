"""ID schemes: each gives every document an ID."""

"""Other ways to retrieve, measured beside the generated IDs."""

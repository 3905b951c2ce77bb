"""Anything that ranks products for a query."""

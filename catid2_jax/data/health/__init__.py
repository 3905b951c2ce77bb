"""Inspects a data set before training: figures, findings with advice, and a report."""

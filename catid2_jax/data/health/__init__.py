"""What the data and the results look like: figures, findings and reports for people."""

"""The report of a work directory: a page and its figures, a module per kind of section."""

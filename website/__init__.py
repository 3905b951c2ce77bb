"""The site of docs/: `make docs` builds it with MkDocs into build/site."""

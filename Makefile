# All checks, the quick ones first. The README's commands need no make.
.PHONY: check lint types test slow
check: lint types test
lint:
	ruff check .
	ruff format --check .
types:
	mypy
test:
	python -m pytest
slow:
	python -m pytest -m slow

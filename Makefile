# All checks, the quick ones first. The README's commands need no make.
.PHONY: check lint types test slow docs
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
# The site: build/site_source/site/index.html.
docs:
	python -m website.stage
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build -f build/site_source/mkdocs.yml

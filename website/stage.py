"""Writes what the site is built from: `python -m website.stage` fills build/site_source.

The Markdown of docs/ is what GitHub shows. For the site, links out of docs/ lead to a page of the
linked module's docstrings or of the linked file's text, a line `<!-- generated: NAME -->` is
replaced by what `GENERATED` has under that name, formulas become MathML, which needs no script, and
docs/index.md says the navigation.
"""

import argparse
import functools
import json
import os
import pathlib
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import latex2mathml.converter

from website.fields import fields, source_fields
from website.messages import messages
from website.systems import systems

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"

PAGES = {
    "README.md": "start.md",
    "BENCHMARKS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "notebooks/quickstart.ipynb": "notebook.md",
}
"""Pages beside docs/ -> their names on the site."""

GENERATED: Mapping[str, Callable[..., str]] = {
    "fields": fields,
    "messages": messages,
    "source_fields": source_fields,
    "systems": systems,
}
"""Name in `<!-- generated: NAME ARGUMENTS -->` -> the function that writes what stands there."""

_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.S | re.M)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\\w$])\$([^$\n]+)\$(?!\w)", re.S)


def stage(target: pathlib.Path, with_modules: bool = True) -> None:
    """Writes the pages into `target`/docs and the builder's settings into `target`/mkdocs.yml.

    Args:
        target: a folder, which is emptied.
        with_modules: whether pages of modules have their docstrings, which take most of a build.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(DOCS, target / "docs", ignore=shutil.ignore_patterns("*.md"))
    sources = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in PAGES)]
    for source in sources:
        _write(target, source, page(source))
    for path in sorted({path for source in sources for path in linked_files(source)}):
        _write(target, path, file_page(path, with_modules))
    settings = (ROOT / "website" / "mkdocs.yml").read_text("utf-8")
    nav = navigation((DOCS / "index.md").read_text("utf-8"))
    settings = settings.replace("ROOT", str(ROOT))
    (target / "mkdocs.yml").write_text(f"{settings}nav: {json.dumps(nav, indent=2)}\n", "utf-8")


def page(source: pathlib.Path) -> str:
    """The Markdown of a page as the site has it."""
    parts = _CODE.split(_text(source))
    link = functools.partial(_site_link, source)
    parts[::2] = [_FORMULA.sub(_mathml, _LINK.sub(link, part)) for part in parts[::2]]
    return re.sub(r"^<!-- generated: (.*) -->$", _generated, "".join(parts), flags=re.M)


def navigation(index: str) -> list[dict[str, Any]]:
    """The sections of docs/index.md with the pages that they list, by their titles there."""
    found: list[dict[str, Any]] = [{"Home": "index.md"}]
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        title, _, text = section.partition("\n")
        entries = []
        for name, link in re.findall(r"^- \[([^]]+)\]\(([^)#]+)\)", text, re.M):
            path, _ = _resolved(DOCS / "index.md", link)
            entries.append({name: _site_name(path) if path else link})
        found.append({title: entries})
    return found


def linked_files(source: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files outside of docs/ that a page links to, but for those of `PAGES`."""
    for link in _LINK.findall(_CODE.sub("", _text(source))):
        path, _ = _resolved(source, link)
        if path and not path.is_relative_to(DOCS) and str(path.relative_to(ROOT)) not in PAGES:
            yield path


def file_page(path: pathlib.Path, with_modules: bool = True) -> str:
    """The page of a module's docstrings, or of another file's text."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
    if _module(name):
        return f"# {_module(name)}\n\n{f'::: {_module(name)}' if with_modules else ''}\n"
    language = {".py": "python", ".yaml": "yaml"}.get(path.suffix, "text")
    return f"# {name}\n\n````{language}\n{text}\n````\n"


def _text(source: pathlib.Path) -> str:
    """The Markdown of a page; that of a notebook is its cells'."""
    text = source.read_text("utf-8")
    if source.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{c}\n```" if kind == "code" else c for kind, c in cells)


def _write(target: pathlib.Path, source: pathlib.Path, text: str) -> None:
    place = target / "docs" / _site_name(source)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, "utf-8")


def _generated(match: re.Match[str]) -> str:
    name, *arguments = match[1].split()
    return GENERATED[name](*arguments)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] else "inline"
    return latex2mathml.converter.convert(match[1] or match[2], display=display)


def _site_link(source: pathlib.Path, match: re.Match[str]) -> str:
    """A link of a page as the site has it."""
    path, anchor = _resolved(source, match[1])
    if path is None:
        return match[1]
    folder = posixpath.dirname(_site_name(source)) or "."
    return f"{posixpath.relpath(_site_name(path), folder)}{anchor}"


def _resolved(source: pathlib.Path, link: str) -> tuple[pathlib.Path | None, str]:
    """The file that a link of a page leads to, and its anchor; None for other links."""
    target, sign, anchor = link.partition("#")
    path = pathlib.Path(os.path.normpath(source.parent / target))
    if not target or "://" in target or not path.is_file():
        return None, ""
    return path, f"{sign}{anchor}"


def _site_name(path: pathlib.Path) -> str:
    """Name on the site of a file of the project."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    return f"modules/{_module(name)}.md" if _module(name) else f"files/{name}.md"


def _module(name: str) -> str:
    """The dotted name of a module of the package; empty for other files."""
    if not (name.startswith("catid2_jax/") and name.endswith(".py")):
        return ""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def main(argv: Sequence[str] | None = None) -> None:
    """Stages as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", type=pathlib.Path, default=ROOT / "build" / "site_source")
    parser.add_argument("--without_modules", action="store_true", help="in a few seconds")
    flags = parser.parse_args(argv)
    stage(flags.target, not flags.without_modules)


if __name__ == "__main__":
    main()

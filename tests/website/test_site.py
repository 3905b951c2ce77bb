"""The site: it builds without a warning, and what is generated on it is complete."""

import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from catid2_jax.config import default_config
from catid2_jax.systems import SYSTEMS
from website import stage
from website.figures import FIGURES, FOLDER
from website.markdown import code, prose, table

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """What the site is built from, but for the docstrings of modules."""
    folder = tmp_path_factory.mktemp("site")
    stage.stage(folder, with_modules=False)
    return folder


def build(folder):
    """Builds as `make docs` does; a warning ends it (but not with -q, which counts none)."""
    run = subprocess.run(
        (sys.executable, "-m", "mkdocs", "build", "-f", folder / "mkdocs.yml"),
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # Material's own notice
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert "WARNING" not in run.stdout


def pages(site):
    return {page.relative_to(site).as_posix(): page.read_text() for page in site.rglob("*.html")}


def test_the_site_builds_without_a_warning(staged):
    build(staged)
    found = pages(staged / "site")
    for name in ("index", "start", "tutorial", "results/ids", "modules/catid2_jax.losses"):
        assert f"{name}.html" in found
    for name, text in found.items():
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://", text), name
        assert "<!-- generated" not in text, name
    formulas = re.findall(r"<math.*?</math>", found["how_it_works.html"], re.S)
    assert len(formulas) > 10
    assert not any("\\" in formula for formula in formulas)
    assert 'href="modules/catid2_jax.losses.html"' in found["how_it_works.html"]


@pytest.mark.slow
def test_the_site_builds_with_every_docstring(tmp_path):
    stage.stage(tmp_path)
    build(tmp_path)
    losses = (tmp_path / "site" / "modules" / "catid2_jax.losses.html").read_text()
    assert "Eq. 4: cosine InfoNCE" in losses


def test_a_broken_link_ends_the_build(staged, tmp_path):
    settings = (staged / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    (tmp_path / "docs" / "assets" / "site.css").touch()
    (tmp_path / "docs" / "index.md").write_text("# Here\n\n[there](there.md)\n")
    with pytest.raises(AssertionError, match=r"there\.md"):
        build(tmp_path)


def test_the_navigation_is_that_of_the_index():
    index = (
        "# Docs\n\n## Start\n\n- [A](a.md): first.\n- [B](results/ids.md): second.\n\n## More\n\n"
    )
    assert stage.navigation(f"{index}- [The README](../README.md): all.\n") == [
        {"Home": "index.md"},
        {"Start": [{"A": "a.md"}, {"B": "results/ids.md"}]},
        {"More": [{"The README": "start.md"}]},
    ]


def test_every_page_is_in_the_navigation():
    nav = stage.navigation((ROOT / "docs" / "index.md").read_text("utf-8"))
    sections = [entries for section in nav[1:] for entries in section.values()]
    listed = {uri for entries in sections for entry in entries for uri in entry.values()}
    own = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert own - listed == {"index.md"}
    assert listed - own == {*stage.PAGES.values()}


def paths(values, place="config"):
    """The path of every field of nested values."""
    for name, value in values.items():
        path = f"{place}.{name}"
        plain = place == "config.options" or name == "options"
        yield from paths(value, path) if isinstance(value, dict) and (value or plain) else [path]


def test_every_field_of_the_configuration_has_a_row(staged):
    text = (staged / "docs" / "configuration.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (config\S*)\n(.*?)(?=^## |\Z)", text, re.S | re.M))
    found = set(paths(default_config().to_dict())) - {"config.embedding.options"}
    assert len(found) > 150
    for path in sorted(found):
        section, _, name = path.rpartition(".")
        if name == "options":
            continue
        (row,) = re.findall(rf"^\| `{name}` \|.*$", sections[section], re.M)
        assert len(row.rpartition(" | ")[2]) > 5, f"{path} has no text"


def test_every_system_has_a_row(staged):
    text = (staged / "docs" / "systems.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.-]+)` \|", text, re.M)
    assert sorted(rows) == sorted(SYSTEMS)
    (cost,) = re.findall(r"^\| `cost` \|.*$", text, re.M)
    assert "| `rqvae`, `generative` | `loss_weights.hierarchical_class = 0.0`<br>" in cost
    assert "CoST. Zhu et al., 2024" in cost


def test_tables_keep_what_markdown_would_take():
    assert code("a|b") == "`a|b`"
    assert code("a `b`") == "`` a `b` ``"
    assert prose("<a> *b* `<c>` d_e") == r"&lt;a> \*b\* `<c>` d\_e"
    assert table(("x", "y"), [("a|b", "c\n d")]).splitlines()[2] == r"| a\|b | c d |"


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_whole(name):
    """Well-formed, with a title, and no text beyond an edge at 0.54 em a letter."""
    root = ET.fromstring((FOLDER / f"{name}.svg").read_text("utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.find(f"{space}title").text
    texts = root.findall(f".//{space}text")
    assert len(texts) > 2
    for text in texts:
        length = 0.54 * float(text.get("font-size")) * len(text.text)
        x, anchor = float(text.get("x")), text.get("text-anchor")
        left = x - length * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        assert left >= 0, text.text
        assert left + length <= width, text.text
        assert 0 < float(text.get("y")) < height, text.text


@pytest.mark.slow
def test_figures_are_those_that_the_code_draws():
    for name, draw in FIGURES.items():
        assert (FOLDER / f"{name}.svg").read_text("utf-8") == str(draw()), name
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(FIGURES)

"""Troubleshooting: every message of bad input has its place there, and none that there is not."""

import pathlib
import re

import pytest

from catid2_jax.errors import InputError
from website.messages import Message, all_messages, covers

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
SECTIONS = {  # heading -> (its text, the modules that it is about)
    heading: (text, tuple(re.search(r"^<!-- generated: messages (.*) -->$", text, re.M)[1].split()))
    for heading, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
}


def quoted(text):
    """The messages that a page quotes."""
    return re.findall(r"^error: (.*)$", text, re.M)


def test_every_module_with_messages_is_in_one_section():
    for module in sorted({message.module for message in all_messages()}):
        found = [name for name, (_, prefixes) in SECTIONS.items() if covers(prefixes, module)]
        assert len(found) == 1, f"{module} is in {found}: add it to docs/troubleshooting.md"


def test_every_section_explains_messages_of_its_own():
    for heading, (text, prefixes) in SECTIONS.items():
        own = [message for message in all_messages() if covers(prefixes, message.module)]
        lines = quoted(text)
        assert lines, heading
        matched = [any(m.matches(line) for m in own if m.fixed_words >= 8) for line in lines]
        assert any(matched), heading


@pytest.mark.parametrize("line", sorted(quoted(PAGE.partition("\n## ")[2])))
def test_quoted_messages_are_printed_somewhere(line):
    assert any(m.matches(line) for m in all_messages() if m.fixed_words >= 8)


def test_no_message_is_left_out():
    """As many as the text of the modules has calls, which are counted without a parser."""
    package = ROOT / "catid2_jax"
    calls = re.compile(r"\bInputError\((?!ValueError)")
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).as_posix()
        found = sum(message.module == module for message in all_messages())
        code = re.sub(r"^ *#.*$|``?InputError\(.*?``?", "", path.read_text("utf-8"), flags=re.M)
        assert found == len(calls.findall(code)), module


def test_a_message_is_found_with_its_values_left_open():
    (message,) = (m for m in all_messages() if m.found.startswith("unknown <what> <named>"))
    assert (message.module, message.expected) == ("decoding/filters.py", "<what> of the catalogue")
    assert message.matches(
        str(InputError("a file", "unknown ids 'x' in deny_ids", "ids of the catalogue"))
    )
    assert not message.matches("a file: found unknown ids 'x' in deny_ids, expected some ids")


def test_what_is_always_the_same_is_counted():
    assert Message("a.py", "", "<value>", "at <most> 3").fixed_words == 3

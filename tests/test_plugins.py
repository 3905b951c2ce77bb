"""What a name stands for, and what is said of one that stands for nothing."""

import functools

import pytest

from catid2_jax.errors import InputError
from catid2_jax.plugins import check_name, check_options, construct, is_dotted, options_of, resolve

KNOWN = {"counter": "collections:Counter", "table": "catid2_jax.docids.table:DocidTable"}


class Thing:
    """A plug-in with an argument that it is given, and options."""

    def __init__(self, corpus, depth, width=3, *, kind="flat"):
        self.made_of = (corpus, depth, width, kind)

    def search(self):
        """Finds."""


def refused(error, where, found, expected):
    assert (error.value.where, error.value.found, error.value.expected) == (where, found, expected)


def test_short_names_and_dotted_paths():
    import collections

    assert resolve("counter", KNOWN, "thing") is collections.Counter
    assert resolve("collections:OrderedDict", KNOWN, "thing") is collections.OrderedDict
    assert resolve("counter", KNOWN, "thing", ("most_common", "update")) is collections.Counter
    assert (is_dotted("counter"), is_dotted("a.b:C")) == (False, True)


def test_a_short_name_that_there_is_not():
    with pytest.raises(InputError) as error:
        resolve("nothing", KNOWN, "thing")
    refused(error, "thing", "'nothing'", "one of counter, table, or package.module:Name")
    check_name("counter", KNOWN, "thing")
    check_name("not.there:Yet", KNOWN, "thing")  # nothing is imported


def test_a_module_that_there_is_not():
    with pytest.raises(InputError) as error:
        resolve("nowhere.at_all:Name", KNOWN, "thing")
    refused(
        error,
        "thing",
        "'nowhere.at_all:Name', whose import fails with ModuleNotFoundError: No module named "
        "'nowhere'",
        "a module that imports",
    )


def test_a_module_that_fails_says_why_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "failing_plugin.py").write_text("raise RuntimeError('no\\n  luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError) as error:
        resolve("failing_plugin:Name", KNOWN, "thing")
    assert "whose import fails with RuntimeError: no luck" in error.value.found
    assert isinstance(error.value.__cause__, RuntimeError)
    (tmp_path / "leaving_plugin.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(InputError, match="whose import fails with SystemExit: 3, expected a mod"):
        resolve("leaving_plugin:Name", KNOWN, "thing")
    (tmp_path / "long_plugin.py").write_text("raise RuntimeError('x' * 5000)\n")
    with pytest.raises(InputError) as error:
        resolve("long_plugin:Name", KNOWN, "thing")
    assert len(str(error.value)) < 500


def test_a_name_that_a_module_does_not_have():
    with pytest.raises(InputError) as error:
        resolve("collections:Kounter", KNOWN, "thing")
    refused(
        error,
        "thing",
        "no 'Kounter' in collections",
        "the class or object that 'collections:Kounter' names",
    )


def test_a_class_without_a_method():
    with pytest.raises(InputError) as error:
        resolve("counter", KNOWN, "thing", ("update", "search"))
    refused(
        error, "thing", "'counter' without search", "a subclass of catid2_jax.Thing, or the like"
    )
    with pytest.raises(InputError, match="without digits"):  # there, and no method
        resolve("string:Formatter", {}, "thing", ("format", "digits"))


def test_options_are_arguments_after_those_that_are_given():
    assert list(options_of(Thing)) == ["corpus", "depth", "width", "kind"]
    assert options_of(Thing, 2) == {"width": 3, "kind": "flat"}


def test_what_is_made():
    made = construct(Thing, "thing", "corpus", depth=2, kind="deep")
    assert made.made_of == ("corpus", 2, 3, "deep")
    made = construct(functools.partial(Thing, "corpus"), "thing", depth=2)
    assert made.made_of == ("corpus", 2, 3, "flat")


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        ({"depth": 1, "kine": 2}, "option 'kine' for Thing", "some of depth, width, kind"),
        ({"width": 1}, "no option 'depth' for Thing", "a value, for it has none"),
    ],
)
def test_options_that_there_are_not_or_that_are_missing(options, found, expected):
    with pytest.raises(InputError) as error:
        construct(Thing, "thing", "corpus", **options)
    refused(error, "thing", found, expected)
    with pytest.raises(InputError) as error:
        check_options(options, options_of(Thing, 1), "here", Thing)
    refused(error, "here", found, expected)


def test_what_has_no_options_takes_none():
    with pytest.raises(InputError) as error:
        construct(object, "thing", depth=1)
    refused(error, "thing", "option 'depth' for object", "none")


def test_an_error_of_the_plug_in_itself_is_its_own():
    def fails(depth=1):
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        construct(fails, "thing", depth=2)


def test_a_class_that_takes_any_option_gets_it():
    class Any:
        def __init__(self, **options):
            self.options = options

    assert construct(Any, "retriever", depth=3).options == {"depth": 3}

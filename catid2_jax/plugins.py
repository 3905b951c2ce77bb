"""Finding what a configuration names: an own class by its short name, anyone's by a dotted path."""

import importlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from catid2_jax.errors import InputError


def is_dotted(name: str) -> bool:
    """Whether a name is the path of somebody's class, `package.module:Name`."""
    return ":" in name


def check_name(name: str, known: Collection[str], kind: str) -> None:
    """Checks a name without importing anything.

    Raises:
        InputError: it is neither one of the short names `known` nor a dotted path.
    """
    if name not in known and not is_dotted(name):
        raise InputError(kind, repr(name), f"one of {', '.join(known)}, or package.module:Name")


def resolve(name: str, known: Mapping[str, str], kind: str, methods: Sequence[str] = ()) -> Any:
    """The class or object of a name.

    Args:
        name: a short name of `known`, or a path `package.module:Name`.
        known: short name -> path.
        kind: what is looked for ("scheme"), for messages.
        methods: what it must have.

    Raises:
        InputError: no such name, a module that cannot be imported (with the reason), or an object
            without one of the methods.
    """
    check_name(name, known, kind)
    path = known.get(name, name)
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            kind, f"{name!r}, whose import fails with {reason:.300}", "a module that imports"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise InputError(
            kind, f"no {attribute!r} in {module_name}", f"the class or object that {name!r} names"
        )
    for method in methods:
        if not callable(getattr(found, method, None)):
            expected = f"a subclass of catid2_jax.{kind.capitalize()}, or the like"
            raise InputError(kind, f"{name!r} without {method}", expected)
    return found


def options_of(factory: Any, given: int = 0) -> dict[str, Any]:
    """The options of a class with their defaults, the first `given` arguments left out."""
    parameters = list(inspect.signature(factory).parameters.values())[given:]
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def construct(factory: Any, kind: str, /, *arguments: Any, **options: Any) -> Any:
    """`factory(*arguments, **options)`, with a clear word on options that it does not have.

    Raises:
        InputError: an option that it does not have, or one that it needs is missing.
    """
    check_options(options, options_of(factory, len(arguments)), kind, factory)
    return factory(*arguments, **options)


def check_options(
    options: Collection[str], known: Mapping[str, Any], where: str, factory: Any
) -> None:
    """Checks names of options.

    Args:
        options: those that are given.
        known: those that there are, with their defaults; see `options_of`.
        where: the place, for messages.
        factory: what they are for, named in messages.

    Raises:
        InputError: an option that there is not, or one that is needed is missing.
    """
    name = getattr(factory, "__name__", str(factory))
    kinds = {parameter.kind for parameter in inspect.signature(factory).parameters.values()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    for option in options:
        if option not in known and not takes_any:
            expected = f"some of {', '.join(known)}" if known else "none"
            raise InputError(where, f"option {option!r} for {name}", expected)
    for option, default in known.items():
        if default is inspect.Parameter.empty and option not in options:
            raise InputError(where, f"no option {option!r} for {name}", "a value, for it has none")

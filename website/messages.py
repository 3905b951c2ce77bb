"""Every message of bad input that the package can print, read from its source.

A message is `WHERE: found FOUND, expected EXPECTED` (see `catid2_jax.errors.InputError`): what it
found is the cause, and what it expected the cure.
"""

import ast
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping

from website.markdown import code, table

ROOT = pathlib.Path(__file__).parents[1]

Text = ast.Constant | ast.JoinedStr | ast.BinOp | ast.IfExp


@dataclasses.dataclass(frozen=True)
class Message:
    """A place in the source that makes an InputError; its texts have values in angle brackets.

    Attributes:
        module: its file, from the package's folder.
        where: the place that it names.
        found: what is there.
        expected: what should be there.
    """

    module: str
    where: str
    found: str
    expected: str

    def matches(self, line: str) -> bool:
        """Whether `line`, as printed, can be this message."""
        pattern = f"(.*: )?found {_pattern(self.found)}, expected {_pattern(self.expected)}"
        return re.fullmatch(pattern, line) is not None

    @property
    def fixed_words(self) -> int:
        """How many characters of it are always the same: near 0, it matches any line."""
        return len(re.sub(r"<[^>]*>|\W", "", self.found + self.expected))


def messages(*prefixes: str) -> str:
    """A table of the messages of some modules, folded.

    Args:
        *prefixes: of paths within the package, such as `data/`; those after a minus are left out.
    """
    chosen = [message for message in all_messages() if covers(prefixes, message.module)]
    rows = dict.fromkeys((code(m.where), code(m.found), code(m.expected)) for m in chosen)
    body = table(("where", "found", "expected"), rows)
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f'??? note "All {len(rows)} messages"\n\n{lines}'


def covers(prefixes: tuple[str, ...], module: str) -> bool:
    """Whether a module is among those that `messages(*prefixes)` is about."""
    without = tuple(prefix[1:] for prefix in prefixes if prefix.startswith("-"))
    return module.startswith(prefixes) and not module.startswith(without)


@functools.cache
def all_messages() -> tuple[Message, ...]:
    """Every message, in the order of the files."""
    package, found = ROOT / "catid2_jax", []
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package).as_posix()
        found += [Message(module, *texts) for texts in _made(ast.parse(path.read_text("utf-8")))]
    return tuple(found)


def _made(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Where, found and expected of each InputError that a module makes."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        texts = _texts(function)
        for node in _within(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                where, found, expected = (_words(argument, texts) for argument in node.args)
                yield where, found, expected


def _within(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function but for those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef):
            waiting[:0] = ast.iter_child_nodes(node)


def _texts(function: ast.FunctionDef) -> Mapping[str, ast.expr]:
    """The variables of a function that are assigned once, a text."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return {name: v[0] for name, v in found.items() if len(v) == 1 and isinstance(v[0], Text)}


def _words(node: ast.expr, texts: Mapping[str, ast.expr]) -> str:
    """A text as it is printed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_words(part, texts) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _is_text(node):
        return _words(node.left, texts) + _words(node.right, texts)
    if isinstance(node, ast.Name) and node.id in texts:
        return _words(texts[node.id], texts)
    if isinstance(node, ast.FormattedValue):
        return _words(node.value, texts)
    value = re.sub(r"^(?:repr|str)\((.*)\)$", r"\1", ast.unparse(node))
    return f"<{value}>" if len(value) <= 40 and "<" not in value else "<...>"


def _is_text(node: ast.expr) -> bool:
    """Whether an expression is a sum of texts, and no sum of numbers."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _pattern(text: str) -> str:
    """A regular expression of what a text can be once its values are known."""
    return ".*".join(map(re.escape, re.split(r"<[^>]*>", text)))

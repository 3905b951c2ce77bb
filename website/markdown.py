"""Tables of Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown themselves."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_one_line(cell) for cell in line)} |" for line in lines)


def code(text: object) -> str:
    """Text as code, whatever it contains."""
    words = str(text)
    quotes = "``" if "`" in words else "`"
    space = " " if "`" in words else ""
    return f"{quotes}{space}{words}{space}{quotes}" if words else ""


def prose(text: str) -> str:
    """Plain text with code in backticks, so that nothing else in it is Markdown or HTML."""
    parts = text.split("`")
    for outside in range(0, len(parts), 2):
        part = parts[outside].replace("&", "&amp;").replace("<", "&lt;")
        for sign in ("*", "_", "[", "$"):
            part = part.replace(sign, f"\\{sign}")
        parts[outside] = part
    return "`".join(parts)


def _one_line(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")

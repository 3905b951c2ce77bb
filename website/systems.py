"""The rows of `catid2_jax.systems.SYSTEMS`."""

from catid2_jax.ablations import ABLATIONS
from catid2_jax.systems import SYSTEMS, System
from website.markdown import code, prose, table


def systems() -> str:
    """A table of the systems, and one of the rows of the paper's tables."""
    own = {name: row for name, row in SYSTEMS.items() if name not in ABLATIONS}
    points = {name: row for name, row in SYSTEMS.items() if name in ABLATIONS}
    rows = [(code(name), _source(row), _parts(row), _changes(row)) for name, row in own.items()]
    figures = [(code(name), _changes(row), _recall(row)) for name, row in points.items()]
    return "\n\n".join(
        (
            table(("system", "source", "ID scheme, retriever", "changes"), rows),
            "### Rows of the paper's tables",
            "Each is `cat_id2` with changes; the last column is what the paper reports of ESCI-us.",
            table(("system", "changes", "Recall@k in %"), figures),
        )
    )


def _parts(row: System) -> str:
    scheme = code(row.scheme) or (f"that of {code(row.model_of)}" if row.model_of else "none")
    return f"{scheme}, {code(row.retriever)}"


def _changes(row: System) -> str:
    return "<br>".join(code(f"{path} = {value!r}") for path, value in row.changes.items())


def _recall(row: System) -> str:
    return ", ".join(f"@{k} {value:g}" for k, value in row.paper.get("us", {}).items())


def _source(row: System) -> str:
    return prose(f"{row.label}. {row.source}" if row.source else row.label)

"""What a page consists of: sections of tables, charts, trees and prose, without their looks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias


@dataclasses.dataclass(frozen=True)
class Marked:
    """A text whose beginning is marked.

    Attributes:
        start: what is marked; may be empty.
        rest: what follows.
    """

    start: str
    rest: str


Cell: TypeAlias = str | Marked


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what stands above it.
        columns: the heads; the first column names the rows.
        rows: the cells.
        texts: numbers of the columns that hold text and no numbers, beside the first.
        folded: whether it is shown when it is asked for, as one of more than 40 rows always is.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    texts: Sequence[int] = ()
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Lines:
    """Curves over a common axis.

    Attributes:
        name: of its files.
        title: what stands above it.
        x: label of the axis.
        y: label of the values.
        series: label -> points (x, y).
        markers: whether each point is marked, for few points.
        log_x: whether the axis is logarithmic.
    """

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    markers: bool = False
    log_x: bool = False


@dataclasses.dataclass(frozen=True)
class Bars:
    """Groups of bars with intervals.

    Attributes:
        name: of its files.
        title: what stands above it.
        y: label of the values.
        groups: labels of the groups.
        series: label -> value, low and high end of each group; low = high = value for no interval.
        stacked: whether the bars of a group stand on each other.
    """

    name: str
    title: str
    y: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[tuple[float, float, float]]]
    stacked: bool = False


@dataclasses.dataclass(frozen=True)
class Points:
    """A map of points in groups; its axes have no meaning of their own.

    Attributes:
        name: of its files.
        title: what stands above it.
        groups: label -> points (x, y, what is shown of it).
    """

    name: str
    title: str
    groups: Mapping[str, Sequence[tuple[float, float, str]]]


@dataclasses.dataclass(frozen=True)
class Flow:
    """Products that flow through columns of nodes (a Sankey diagram).

    Attributes:
        name: of its files.
        title: what stands above it.
        columns: heads of the columns.
        nodes: per column the labels of its nodes and the products of each.
        links: (column, node, node of the next column, products, node of the first column that these
            come from).
    """

    name: str
    title: str
    columns: Sequence[str]
    nodes: Sequence[Sequence[tuple[str, int]]]
    links: Sequence[tuple[int, int, int, int, int]]


@dataclasses.dataclass(frozen=True)
class WordCloud:
    """Words whose size says how often they occur.

    Attributes:
        name: of its files.
        title: what stands above it.
        words: word -> occurrences, at least one word.
        seed: seed of their places.
    """

    name: str
    title: str
    words: Mapping[str, int]
    seed: int = 0


Chart: TypeAlias = Lines | Bars | Points | Flow | WordCloud


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of a tree that unfolds.

    Attributes:
        label: its name.
        about: what is said of it.
        children: the nodes beneath it.
        leaves: lines beneath it.
        left_out: what of it is not shown, in words; empty if all is.
    """

    label: str
    about: str
    children: Sequence["Node"] = ()
    leaves: Sequence[str] = ()
    left_out: str = ""


@dataclasses.dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Code:
    """Text that keeps its lines, shown when it is asked for.

    Attributes:
        title: what it is.
        text: the text.
    """

    title: str
    text: str


@dataclasses.dataclass(frozen=True)
class Charts:
    """Charts that stand side by side where there is room.

    Attributes:
        charts: at least one.
    """

    charts: Sequence[Chart]


@dataclasses.dataclass(frozen=True)
class Tree:
    """Nodes that unfold.

    Attributes:
        roots: the nodes.
        left_out: what is not shown, in words; empty if all is.
    """

    roots: Sequence[Node]
    left_out: str = ""


Block: TypeAlias = Table | Prose | Code | Charts | Tree


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its heading.
        blocks: what it shows, in order.
    """

    title: str
    blocks: Sequence[Block]

"""Small figures as SVG, the same bytes from every run."""

import html
from collections.abc import Sequence

BLUE, ORANGE, GREEN, PINK, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"
"""Colours that the colour-blind can tell apart (Okabe and Ito)."""
INK, FAINT = "#1b1b1b", "#767676"


class Drawing:
    """Shapes in pixels, the origin at the top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        """Starts an empty figure whose `title` is read aloud in its place."""
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            'font-family="system-ui, Segoe UI, DejaVu Sans, sans-serif" font-size="13">',
            f"<title>{html.escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{INK}"/></marker>'
            "</defs>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def text(
        self,
        x: float,
        y: float,
        words: str,
        anchor: str = "middle",
        fill: str = INK,
        size: int = 13,
    ) -> None:
        """Writes words with their base line at y; a white rim keeps them apart from shapes."""
        self._parts.append(
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{fill}" '
            'paint-order="stroke" stroke="#ffffff" stroke-width="3" '
            f'font-size="{size}">{html.escape(words)}</text>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, lines: Sequence[str], edge: str = INK
    ) -> None:
        """Draws a box with lines of text in its middle."""
        self._parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" '
            f'fill="#ffffff" stroke="{edge}" stroke-width="1.5"/>'
        )
        first = y + height / 2 - 8.5 * (len(lines) - 1) + 4.5
        for number, line in enumerate(lines):
            self.text(x + width / 2, first + 17 * number, line)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, stroke: str = INK, tip: bool = False
    ) -> None:
        """Draws a line, with an arrow's tip if wanted."""
        end = ' marker-end="url(#tip)"' if tip else ""
        self._parts.append(
            f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{stroke}" '
            f'stroke-width="1.5"{end}/>'
        )

    def dot(self, x: float, y: float, radius: float, fill: str, edge: str = "none") -> None:
        """Draws a filled circle."""
        self._parts.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius:.1f}" fill="{fill}" stroke="{edge}"/>'
        )

    def cross(self, x: float, y: float, stroke: str) -> None:
        """Draws a cross, a code vector's sign."""
        self._parts.append(
            f'<path d="M{x - 7:.0f} {y:.0f}h14M{x:.0f} {y - 7:.0f}v14" stroke="{stroke}" '
            'stroke-width="3"/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Draws a bar that stands on y."""
        self._parts.append(
            f'<rect x="{x:.0f}" y="{y - height:.0f}" width="{width:.0f}" height="{height:.0f}" '
            f'fill="{fill}"/>'
        )

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>"]) + "\n"

"""Colours that all readers can tell apart (Okabe and Ito, 2008), and dashes where they recur."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""The palette without its yellow, which is too pale for lines on white, and with grey for black."""

DASHES = ("solid", "dash", "dot", "dashdot")
"""By the names of plotly."""


def style(number: int) -> tuple[str, str]:
    """Colour and dash of a series by its number; 28 series look different."""
    return COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]

"""The figures of docs/how_it_works.md: `python -m website.figures` writes docs/figures/*.svg.

Whatever a figure shows is computed by the package's own functions.
"""

import pathlib
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np

from catid2_jax.losses import (
    cluster_scale_constraint_loss,
    dispersion_loss,
    hierarchical_class_constraint_loss,
)
from catid2_jax.models.residual_quantizer import quantize
from website.drawing import BLUE, FAINT, GREEN, INK, ORANGE, PINK, SKY, Drawing

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "figures"
COLOURS = (BLUE, ORANGE, GREEN, PINK)


def overview() -> Drawing:
    """Both stages in boxes."""
    figure = Drawing(760, 225, "Stage 1 turns products into IDs, stage 2 queries into IDs")
    figure.text(10, 22, "Stage 1: what a product's ID is", "start", BLUE, 14)
    steps = (
        ("title, text,", "category path"),
        ("vector d", "(a text encoder)"),
        ("latent z = E(d)", "(RQ-VAE)"),
        ("L codes, nearest", "code vectors"),
        ("unique ID", "a65 b225 c205"),
    )
    for number, lines in enumerate(steps):
        figure.box(10 + 150 * number, 36, 132, 54, lines, BLUE)
        if number:
            figure.line(150 * number - 8, 63, 8 + 150 * number, 63, tip=True)
    figure.text(10, 142, "Stage 2: the IDs that a query asks for", "start", GREEN, 14)
    steps = (
        ("query", "“running shoes”"),
        ("encoder", "(T5)"),
        ("decoder writes", "code after code"),
        ("beam search", "in the trie of IDs"),
        ("products, scored,", "proven or not"),
    )
    for number, lines in enumerate(steps):
        figure.box(10 + 150 * number, 156, 132, 54, lines, GREEN)
        if number:
            figure.line(150 * number - 8, 183, 8 + 150 * number, 183, tip=True)
    figure.line(676, 92, 540, 152, FAINT, tip=True)
    figure.text(570, 126, "the catalogue's IDs", "end", FAINT)
    return figure


def quantization() -> Drawing:
    """Two levels of residual quantisation in the plane."""
    generator = np.random.default_rng(3)
    centres = np.array([[-1.4, 0.9], [1.3, 1.1], [1.2, -1.1], [-1.2, -1.0]])
    offsets = np.array([[0.45, 0.0], [-0.25, 0.4], [-0.25, -0.4]])
    owner, part = np.repeat(np.arange(4), 15), np.tile(np.arange(3), 20)
    points = centres[owner] + offsets[part] + 0.13 * generator.normal(size=(60, 2))
    codebooks = np.zeros((2, 4, 2))
    codebooks[0], codebooks[1, :3], codebooks[1, 3] = centres, offsets, 9.0
    found = quantize(jnp.asarray(points, jnp.float32), jnp.asarray(codebooks, jnp.float32))
    codes, residuals = np.asarray(found.codes), np.asarray(found.residuals)
    figure = Drawing(760, 330, "Residual quantisation: the nearest code, then that of the rest")
    panels = (
        (190, "Level 1: z and the nearest of 4 codes", points, codebooks[0], 0, 70),
        (570, "Level 2: what is left, and 3 codes", residuals[:, 1], codebooks[1, :3], 1, 170),
    )
    for middle, title, rows, vectors, level, scale in panels:
        figure.text(middle, 24, title, size=14)
        figure.line(middle - 170, 180, middle + 170, 180, "#dddddd")
        figure.line(middle, 40, middle, 320, "#dddddd")
        for (x, y), code in zip(rows, codes[:, level], strict=True):
            figure.dot(middle + scale * x, 180 - scale * y, 3.5, COLOURS[code])
        for number, (x, y) in enumerate(vectors):
            figure.cross(middle + scale * x, 180 - scale * y, INK)
            figure.text(middle + scale * x + 10, 172 - scale * y, f"{'ab'[level]}{number}", "start")
    return figure


def class_constraint() -> Drawing:
    """L_HCC of residuals before and after categories have come together."""
    angles = {"mixed": (10, 95, 200, 60, 150, 250), "apart": (35, 50, 65, 185, 200, 215)}
    categories = jnp.asarray([[0]] * 3 + [[1]] * 3)
    figure = Drawing(760, 270, "L_HCC is low where a category's products point the same way")
    for middle, (name, degrees) in zip((190, 570), angles.items(), strict=True):
        turns = np.deg2rad(degrees)
        rows = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        loss = float(
            hierarchical_class_constraint_loss(jnp.asarray(rows, jnp.float32), categories, 0, 0.5)
        )
        figure.text(middle, 24, f"categories {name}: L_HCC = {loss:.2f}", size=14)
        figure.dot(middle, 150, 100, "#ffffff", "#dddddd")
        for (x, y), category in zip(rows, np.asarray(categories)[:, 0], strict=True):
            figure.line(middle, 150, middle + 96 * x, 150 - 96 * y, COLOURS[category])
            figure.dot(middle + 100 * x, 150 - 100 * y, 6, COLOURS[category])
    figure.dot(306, 256, 6, COLOURS[0])
    figure.text(318, 261, "Shoes", "start")
    figure.dot(396, 256, 6, COLOURS[1])
    figure.text(408, 261, "Lamps", "start")
    return figure


def cluster_scale() -> Drawing:
    """L_CSC of three ways in which 8 codes can be used."""
    usages = {
        "even": np.full(8, 1 / 8),
        "uneven": np.array([30, 20, 15, 12, 10, 6, 4, 3]) / 100,
        "collapsed": np.array([93, 1, 1, 1, 1, 1, 1, 1]) / 100,
    }
    figure = Drawing(760, 230, "L_CSC is 0 where all codes are used evenly, and grows otherwise")
    for number, (name, usage) in enumerate(usages.items()):
        left = 20 + 250 * number
        loss = abs(float(cluster_scale_constraint_loss(jnp.log(jnp.asarray(usage))[None])))
        figure.text(left + 110, 24, f"{name}: L_CSC = {loss:.2f}", size=14)
        for code, share in enumerate(usage):
            figure.bar(left + 6 + 26 * code, 205, 22, max(160 * share, 2), COLOURS[number])
            figure.text(left + 17 + 26 * code, 221, str(code), fill=FAINT, size=11)
        figure.line(left, 205, left + 216, 205)
    return figure


def dispersion() -> Drawing:
    """L_recon and L_Dis of reconstructions that miss by the same distance, in two directions."""
    vectors = np.array([[0.0, 1.0], [0.6, 0.8], [0.97, 0.24]])
    steps = {
        "towards a neighbour": np.array([[0.3, -0.1], [-0.3, 0.1], [-0.18, 0.26]]),
        "away from the others": np.array([[-0.3, -0.1], [0.22, 0.22], [0.18, -0.26]]),
    }
    figure = Drawing(760, 300, "Two reconstructions of the same error and different L_Dis")
    for left, (name, step) in zip((60, 440), steps.items(), strict=True):
        length = np.linalg.norm(step, axis=1, keepdims=True)
        made = vectors + 0.3 * step / length
        loss = float(dispersion_loss(jnp.asarray(made), jnp.asarray(vectors), 0.1))
        error = float(np.mean(np.square(made - vectors)))
        figure.text(left + 130, 24, f"{name}", size=14)
        figure.text(left + 130, 44, f"L_recon = {error:.3f}, L_Dis = {loss:.2f}", size=14)
        for (x, y), (u, v), colour in zip(vectors, made, COLOURS, strict=False):
            figure.line(left + 200 * x, 275 - 200 * y, left + 200 * u, 275 - 200 * v, FAINT)
            figure.dot(left + 200 * x, 275 - 200 * y, 7, colour)
            figure.dot(left + 200 * u, 275 - 200 * v, 5, "#ffffff", colour)
    figure.text(380, 294, "filled: d, hollow: its reconstruction", fill=FAINT)
    return figure


def search() -> Drawing:
    """A trie of five IDs, and what two beams keep of it."""
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 1]])
    names = ("boots", "sandals", "sofa", "lamp", "hose")
    first = dict(zip(range(3), (-0.4, -1.3, -3.0), strict=True))
    second = dict(zip(names, (-0.2, -1.9, -1.6, -0.3, -0.1), strict=True))
    scores = {n: first[int(c)] + second[n] for n, c in zip(names, codes[:, 0], strict=True)}
    figure = Drawing(760, 300, "Beam search in a trie: pruned prefixes bound what was not seen")
    figure.dot(60, 150, 9, INK)
    figure.text(60, 180, "query")
    for code, y in zip(first, (70, 165, 255), strict=True):
        kept = first[code] > -2
        figure.line(70, 150, 250, y, INK if kept else "#cccccc")
        figure.dot(260, y, 9, BLUE if kept else "#cccccc")
        figure.text(262, y - 16, f"a{code}: {first[code]:.1f}", fill=INK if kept else FAINT)
    for number, (name, (code, last)) in enumerate(zip(names, codes, strict=True)):
        y, kept = 40 + 55 * number, first[int(code)] > -2
        figure.line(270, (70, 165, 255)[int(code)], 470, y, INK if kept else "#cccccc")
        figure.dot(480, y, 9, GREEN if kept else "#cccccc")
        words = (
            f"a{code} b{last}  {name}: {scores[name]:.1f}" if kept else f"a{code} b{last}  {name}"
        )
        figure.text(498, y + 5, words, "start", INK if kept else FAINT)
    figure.text(498, 278, "pruned: at most -3.0, so what scores", "start", SKY)
    figure.text(498, 294, "more is proven to be the best", "start", SKY)
    return figure


FIGURES: Mapping[str, Callable[[], Drawing]] = {
    "overview": overview,
    "quantization": quantization,
    "class_constraint": class_constraint,
    "cluster_scale": cluster_scale,
    "dispersion": dispersion,
    "search": search,
}
"""Name of a figure's file, without .svg -> the function that draws it."""


def main() -> None:
    """Writes all figures."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(str(draw()), "utf-8")


if __name__ == "__main__":
    main()

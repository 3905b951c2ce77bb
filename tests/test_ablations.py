"""Each preset against the row of the paper that it is named after, through the command line."""

import dataclasses
import pathlib

import pytest

from catid2_jax import cli
from catid2_jax.config import Config, default_config, freeze
from catid2_jax.presets import PRESETS, set_preset

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "rqvae.py"

ALPHA, BETA, GAMMA = (
    f"loss_weights.{name}" for name in ("dispersion", "hierarchical_class", "cluster_scale")
)
RECONSTRUCTION = "loss_weights.reconstruction"

# The defaults are CAT-ID2 of section 4.1: alpha 0.1, beta 0.0001, gamma 1, L_Dis for L_recon. What
# TIGER (Eq. 3) has else is L_recon and none of the three; a "+" of Table 3 brings one of them back.
TIGER = {RECONSTRUCTION: 1.0, ALPHA: 0.0, BETA: 0.0, GAMMA: 0.0}
TABLE_3 = {
    "tiger": TIGER,  # (0)
    "hccl": {RECONSTRUCTION: 1.0, ALPHA: 0.0, GAMMA: 0.0},  # (1) = (0) + HCCL
    "cscl": {RECONSTRUCTION: 1.0, ALPHA: 0.0, BETA: 0.0},  # (2) = (0) + CSCL
    "hccl_cscl": {RECONSTRUCTION: 1.0, ALPHA: 0.0},  # (3) = (1) + CSCL
    "disl": {BETA: 0.0, GAMMA: 0.0},  # (4) = (0) + DisL, in the place of L_recon
    "hccl_disl": {GAMMA: 0.0},  # (5) = (1) + DisL
    "cat_id2": {},  # (6)
}
WITHOUT_CATEGORIES = {"embedding.with_categories": False}
TABLE_4 = {
    "tiger": TIGER,
    "tiger_without_categories": TIGER | WITHOUT_CATEGORIES,
    "cat_id2": {},
    "cat_id2_without_categories": WITHOUT_CATEGORIES,
}
TABLE_5 = {
    "tiger": TIGER,
    "random_sampling": {"loss_weights.negatives": "global"},
    "1_level": {"rqvae.category_levels": 1},
    "2_level": {"rqvae.category_levels": 2},
    "2_and_3_level": {"rqvae.masked_categories": 0.5},  # "randomly selecting half of the third"
    "3_level": {},
}
THREE_LAYERS = {"rqvae.levels": 3, "rqvae.category_levels": 2}  # H "must be smaller than" L
TABLE_6 = {
    "tiger_3_layers": TIGER | THREE_LAYERS,
    "tiger_4_layers": TIGER,
    "tiger_5_layers": TIGER | {"rqvae.levels": 5},
    "cat_id2_3_layers": THREE_LAYERS,
    "cat_id2_4_layers": {},
    "cat_id2_5_layers": {"rqvae.levels": 5},
}
# The text names the axes; the points are the project's own.
FIGURE_5 = {
    "alpha": (ALPHA, ("0.01", "0.03", "0.1", "0.3", "1")),
    "beta": (BETA, ("1e-05", "0.0001", "0.001", "0.01", "0.1")),
    "gamma": (GAMMA, ("0.1", "0.3", "1", "3", "10")),
    "codes": ("rqvae.codebook_size", ("64", "128", "256", "512", "1024")),
    "depth": ("rqvae.category_levels", ("1", "2", "3")),
}
OF_THE_PAPER = {"alpha": 0.1, "beta": 1e-4, "gamma": 1.0, "codes": 256, "depth": 3}


def figure_5():
    rows = {}
    for name, (field, points) in FIGURE_5.items():
        for point in points:
            changed = float(point) != OF_THE_PAPER[name]
            rows[f"{name}_{point}"] = {field: float(point)} if changed else {}
    for point in FIGURE_5["codes"][1]:
        rows[f"tiger_codes_{point}"] = TIGER | rows[f"codes_{point}"]
    return rows


EXPECTED = {"cat_id2": {}, "tiger": TIGER}
for group, group_rows in (
    ("table3", TABLE_3),
    ("table4", TABLE_4),
    ("table5", TABLE_5),
    ("table6", TABLE_6),
    ("figure5", figure_5()),
):
    EXPECTED |= {f"{group}_{row}": fields for row, fields in group_rows.items()}


def flat(section, prefix=""):
    """Every field by its path."""
    fields = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        path = f"{prefix}{field.name}"
        fields |= flat(value, f"{path}.") if dataclasses.is_dataclass(value) else {path: value}
    return fields


def changes(config, base):
    """The fields in which `config` differs from `base`."""
    ours, theirs = flat(config), flat(base)
    return {name: value for name, value in ours.items() if value != theirs[name]}


def from_command_line(name, *arguments):
    """(configuration, work directory) of `configs/rqvae.py:<name>`."""
    seen = []
    path = f"{CONFIG}:{name}" if name else str(CONFIG)
    cli.main_with(lambda *got: seen.extend(got), ["train", f"--config={path}", *arguments])
    return seen


def test_every_row_has_a_preset_and_every_preset_is_a_row():
    assert set(PRESETS) == set(EXPECTED)


def test_the_rows_start_from_the_paper_s_cat_id2():
    fields = flat(Config())
    assert {name: fields[name] for name in TIGER} == {
        RECONSTRUCTION: 0.0, ALPHA: 0.1, BETA: 1e-4, GAMMA: 1.0
    }  # fmt: skip
    assert (fields["rqvae.levels"], fields["rqvae.codebook_size"]) == (4, 256)
    assert fields["rqvae.category_levels"] == 3
    assert fields["loss_weights.negatives"] == "hard"
    assert (fields["rqvae.masked_categories"], fields["embedding.with_categories"]) == (0.0, True)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_preset_changes_what_its_row_says_and_nothing_else(name, capsys):
    config = default_config()
    set_preset(config, name)
    assert changes(freeze(config), Config()) == EXPECTED[name]

    frozen, workdir = from_command_line(name)
    assert workdir.root == pathlib.Path(f"runs/rqvae-{name}")
    assert changes(frozen, from_command_line("")[0]) == EXPECTED[name]
    assert frozen.stage == "rqvae"
    assert frozen.rqvae.category_levels < frozen.rqvae.levels
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.rqvae.levels = 2


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "codes"])
def test_the_points_of_figure_5_lie_around_the_paper_s_value(name):
    """Each curve rises and then falls, so it needs points on both sides."""
    points = [float(point) for point in FIGURE_5[name][1]]
    assert min(points) < OF_THE_PAPER[name] < max(points)
    assert OF_THE_PAPER[name] in points


def test_the_command_line_overrides_a_preset():
    frozen, _ = from_command_line("table3_hccl", "--config.loss_weights.hierarchical_class=0.5")
    base, _ = from_command_line("")
    assert changes(frozen, base) == TABLE_3["hccl"] | {BETA: 0.5}


def test_an_unknown_preset_is_one_clear_line(capsys):
    with pytest.raises(SystemExit) as exit_:
        from_command_line("table7_cat_id2")
    lines = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: found preset 'table7_cat_id2', expected one of cat_id2, ")

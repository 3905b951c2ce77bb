"""Each row of the paper's tables as a system, against what the paper says of it."""

import dataclasses
import pathlib

import pytest

from catid2_jax import cli
from catid2_jax.ablations import ABLATIONS
from catid2_jax.config import Config
from catid2_jax.errors import InputError
from catid2_jax.losses import LITERAL
from catid2_jax.resolution import resolve_system, resolve_systems
from catid2_jax.systems import SYSTEMS

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "rqvae.py"

ALPHA, BETA, GAMMA = (
    f"loss_weights.{name}" for name in ("dispersion", "hierarchical_class", "cluster_scale")
)
RECONSTRUCTION = "loss_weights.reconstruction"

QUERIES = "loss_weights.query_alignment"

# The defaults are CAT-ID2 with a term of the queries, L_Dis in the place of L_recon. What TIGER
# (Eq. 3) has else is L_recon and none of the terms; a "+" of Table 3 leaves one of them on.
TIGER = {RECONSTRUCTION: 1.0, ALPHA: 0.0, BETA: 0.0, GAMMA: 0.0, QUERIES: 0.0}
TABLE_3 = {
    "tiger": TIGER,  # (0)
    "hccl": {RECONSTRUCTION: 1.0, ALPHA: 0.0, GAMMA: 0.0, QUERIES: 0.0},  # (1) = (0) + HCCL
    "cscl": {RECONSTRUCTION: 1.0, ALPHA: 0.0, BETA: 0.0, QUERIES: 0.0},  # (2) = (0) + CSCL
    "hccl_cscl": {RECONSTRUCTION: 1.0, ALPHA: 0.0, QUERIES: 0.0},  # (3) = (1) + CSCL
    "disl": {BETA: 0.0, GAMMA: 0.0, QUERIES: 0.0},  # (4) = (0) + DisL, in the place of L_recon
    "hccl_disl": {GAMMA: 0.0, QUERIES: 0.0},  # (5) = (1) + DisL
    "cat_id2": {QUERIES: 0.0},  # (6)
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
    "codebook_size": ("rqvae.codebook_size", ("64", "128", "256", "512", "1024")),
    "depth": ("rqvae.category_levels", ("1", "2", "3")),
}
OF_THE_PAPER = {"alpha": 0.1, "beta": 1e-4, "gamma": 1.0, "codebook_size": 256, "depth": 3}
DEFAULT = OF_THE_PAPER | {"beta": 1e-2, "gamma": 0.3}


def figure_5():
    rows = {}
    for name, (field, points) in FIGURE_5.items():
        for point in points:
            changed = float(point) != DEFAULT[name]
            rows[f"{name}_{point}"] = {field: float(point)} if changed else {}
    for point in FIGURE_5["codebook_size"][1]:
        rows[f"tiger_codebook_size_{point}"] = TIGER | rows[f"codebook_size_{point}"]
    return rows


EXPECTED = {}
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
    cli.main(lambda *got: seen.extend(got), "", ["train", f"--config={path}", *arguments])
    return seen


def test_every_row_is_a_system():
    assert set(ABLATIONS) == set(EXPECTED)
    assert set(ABLATIONS) < set(SYSTEMS)
    for name in ABLATIONS:
        assert (SYSTEMS[name].scheme, SYSTEMS[name].retriever) == ("rqvae", "generative")


def test_the_rows_start_from_cat_id2():
    fields = flat(Config())
    assert {name: fields[name] for name in TIGER} == {
        RECONSTRUCTION: 0.0, ALPHA: 0.1, BETA: 1e-2, GAMMA: 0.3, QUERIES: 0.3
    }  # fmt: skip
    assert (fields["rqvae.levels"], fields["rqvae.codebook_size"]) == (4, 256)
    assert fields["rqvae.category_levels"] == 3
    assert fields["loss_weights.negatives"] == "hard"
    assert (fields["rqvae.masked_categories"], fields["embedding.with_categories"]) == (0.0, True)


def test_the_literal_row_is_section_4_1_s():
    config = resolve_system("cat_id2_literal", Config()).config
    weights, rqvae, training = config.loss_weights, config.rqvae, config.rqvae_training
    assert weights == LITERAL
    assert (rqvae.levels, rqvae.codebook_size, rqvae.category_levels) == (4, 256, 3)
    assert (*rqvae.hidden_dims, rqvae.latent_dim) == (2048, 1024, 512, 256, 128, 64, 32)
    assert (rqvae.code_temperature, rqvae.code_temperature_unit) == (1.0, "one")
    assert (rqvae.linear_path, rqvae.held_out) == ("none", 0.0)
    assert (training.batch_size, training.epochs, training.steps) == (4096, 300, 0)
    assert (training.schedule, training.warmup_steps, training.patience) == ("constant", 0, 0)


# CoST's loss is Table 3's row 4 (Zhu et al., 2024).
COMPARED = {"cat_id2": {}, "tiger": TIGER, "cost": TABLE_3["disl"]}


@pytest.mark.parametrize("name", [*EXPECTED, *COMPARED])
def test_a_system_changes_what_its_row_says_and_nothing_else(name):
    expected = (EXPECTED | COMPARED)[name]
    assert changes(resolve_system(name, Config()).config, Config()) == expected

    run, workdir = from_command_line(name)
    assert workdir.root == pathlib.Path(f"runs/rqvae-{name}")
    assert run.systems == (name,)
    base, _ = from_command_line("")
    assert changes(run, base) == ({} if name == "cat_id2" else {"systems": (name,)})
    (system,) = resolve_systems(run).values()
    assert changes(system.config, run) == expected
    assert run.stage == "docids"
    assert system.config.rqvae.category_levels < system.config.rqvae.levels
    with pytest.raises(dataclasses.FrozenInstanceError):
        system.config.rqvae.levels = 2


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "codebook_size"])
def test_the_points_of_figure_5_lie_around_the_paper_s_value(name):
    """Each curve rises and then falls, so it needs points on both sides."""
    points = [float(point) for point in FIGURE_5[name][1]]
    assert min(points) < OF_THE_PAPER[name] < max(points)
    assert OF_THE_PAPER[name] in points


def test_a_row_holds_beside_what_the_command_line_says():
    """What a row changes makes the system; all else is the run's, for each of its systems."""
    fields = [f"--config.{BETA}=0.5", f"--config.{GAMMA}=0.5"]
    run, _ = from_command_line("", "--config.systems=('cat_id2','table3_hccl')", *fields)
    ours, row = (system.config for system in resolve_systems(run).values())
    assert changes(ours, run) == {}
    assert changes(row, run) == {RECONSTRUCTION: 1.0, ALPHA: 0.0, GAMMA: 0.0, QUERIES: 0.0}
    run, _ = from_command_line("table3_disl", "--config.loss_weights.commitment=0.5")
    (row,) = resolve_systems(run).values()
    assert row.config.loss_weights.commitment == 0.5
    assert changes(row.config, run) == TABLE_3["disl"]


OF_CAT_ID2 = ("table3_cat_id2", "table4_cat_id2", "table5_3_level", "table6_cat_id2_4_layers")


def test_the_paper_s_figures_agree_where_its_tables_meet():
    """One system stands in several tables, each of which rounds it by itself."""
    for names in (
        [
            "cat_id2",
            "table3_cat_id2",
            "table4_cat_id2",
            "table5_3_level",
            "table6_cat_id2_4_layers",
        ],
        ["tiger", "table3_tiger", "table4_tiger", "table5_tiger", "table6_tiger_4_layers"],
        ["cost", "table3_disl"],
    ):
        first, *others = (SYSTEMS[name].paper["us"] for name in names)
        for figures in others:
            shared = first.keys() & figures.keys()
            assert len(shared) >= 3
            for k in shared:
                assert figures[k] == pytest.approx(first[k], abs=0.0101), names
    for name in ABLATIONS:
        figures = SYSTEMS[name].paper["us"]
        assert bool(figures) != name.startswith("figure5"), name
        assert list(figures.values()) == sorted(figures.values())


def test_an_unknown_row_is_one_clear_line(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(
            lambda config, _: resolve_systems(config),
            "",
            ["x", f"--config={CONFIG}:table7_cat_id2"],
        )
    lines = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith(
        "error: config.systems: found 'table7_cat_id2', expected some of cat_id2, "
        "cat_id2_literal, tiger, "
    )


@pytest.mark.parametrize("path", ["loss_weights.delta", "nothing.levels", "rqvae.levels.two"])
def test_a_row_that_changes_no_field(path, monkeypatch):
    row = dataclasses.replace(SYSTEMS["cat_id2"], changes={path: 1})
    monkeypatch.setitem(SYSTEMS, "mine", row)
    with pytest.raises(InputError) as error:
        resolve_system("mine", Config())
    assert error.value.where == "system mine"
    assert error.value.found == f"a change of {path!r}"

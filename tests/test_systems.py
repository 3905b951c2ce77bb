"""Rows that set options of their scheme or retriever."""

import dataclasses

import pytest

from catid2_jax.config import Config, default_config, freeze
from catid2_jax.errors import InputError
from catid2_jax.losses import TERMS
from catid2_jax.resolution import option_changes, resolve_system, resolve_systems
from catid2_jax.systems import SYSTEMS, System


@pytest.fixture
def with_rows(monkeypatch):
    def add(**rows):
        for name, row in rows.items():
            monkeypatch.setitem(SYSTEMS, name, row)

    return add


@pytest.mark.parametrize("config", [Config(), freeze(default_config())])
def test_a_row_s_options_are_its_own(config):
    before = {name: dict(options) for name, options in config.options.items()}
    run = dataclasses.replace(config, systems=("rq_kmeans_balanced", "rq_kmeans"))
    balanced, plain = resolve_systems(run).values()
    assert balanced.scheme_options["balanced"] is True
    assert not plain.scheme_options.get("balanced", False)
    # What the step of the IDs records and compares.
    assert balanced.config.options["residual_kmeans"] == balanced.scheme_options
    assert config.options == before


def test_a_seed_of_its_own_is_a_system_of_its_own():
    config = Config(systems=("tiger", "tiger@7", "clusters@7", "fused@7", "bm25"), seed=3)
    plain, seeded, clusters, fused, bm25 = resolve_systems(config).values()
    assert dataclasses.replace(seeded.config, seed=3) == plain.config
    assert (seeded.name, seeded.plain_name, seeded.config.seed) == ("tiger@7", "tiger", 7)
    assert (seeded.model_name, clusters.model_name) == ("tiger@7", "cat_id2@7")
    # The others have none.
    assert [part.name for part in fused.parts] == ["cat_id2@7", "bm25", "nearest_query"]
    assert [part.config.seed for part in fused.parts] == [7, 3, 3]
    assert [system.is_seeded for system in (plain, seeded, clusters, fused, bm25)] == [
        *(True, True, True, True, False),
    ]
    with pytest.raises(InputError, match="found 'tiger@one', expected some of cat_id2"):
        resolve_system("tiger@one", config)


def test_other_options_are_the_run_s():
    config = default_config()
    config.options.residual_kmeans.levels = 7
    for name in ("rq_kmeans", "rq_kmeans_balanced"):
        assert resolve_system(name, freeze(config)).scheme_options["levels"] == 7


def test_options_of_one_s_own_scheme_and_of_a_retriever(with_rows):
    path = "tests.plugins.my_scheme:MyScheme"
    with_rows(
        mine=System("mine", scheme=path, changes={"options.MyScheme.branches": 3}),
        narrow=System("narrow", "clusters", model_of="mine", changes={"options.clusters.level": 1}),
    )
    assert resolve_system("mine", Config()).scheme_options == {"branches": 3}
    narrow = resolve_system("narrow", Config())
    assert (narrow.options, narrow.config.options["MyScheme"]) == ({"level": 1}, {"branches": 3})
    assert option_changes(SYSTEMS["mine"].changes, path) == {"branches": 3}


@pytest.mark.parametrize(
    ("changes", "where", "found"),
    [
        (
            {"options.residual_kmeans.balance": True},
            "config.options.residual_kmeans",
            "option 'balance' for ResidualKMeans",
        ),
        ({"options.random.levels": 3}, "system mine", "a change of 'options.random.levels'"),
        ({"options.balanced": True}, "system mine", "a change of 'options.balanced'"),
    ],
)
def test_options_that_a_row_does_not_have(with_rows, changes, where, found):
    with_rows(mine=System("mine", scheme="residual_kmeans", changes=changes))
    config = freeze(default_config())
    with pytest.raises(InputError) as error:
        resolve_system("mine", config)
    assert (error.value.where, error.value.found) == (where, found)
    assert config.options == default_config().to_dict()["options"]


TERMS_OF = {
    "tiger": {"reconstruction"},
    "hiergr": {"reconstruction"},
    "letter": {"reconstruction", "collaborative", "diversity"},
    "cq_sid": {"reconstruction", "hierarchical_class", "query_alignment"},
}


@pytest.mark.parametrize("name", TERMS_OF)
def test_the_terms_of_rows_with_an_rq_vae(name):
    weights = resolve_system(name, freeze(default_config())).config.loss_weights
    assert {term for term in TERMS if getattr(weights, term)} == TERMS_OF[name]


def test_rows_whose_stage_2_differs():
    config = freeze(default_config())
    nci, hi_gen = (resolve_system(name, config).config for name in ("nci", "hi_gen"))
    assert nci.seq2seq.decoder == "pawa"
    assert nci.seq2seq.objective.r_drop * nci.t5.dropout_rate * nci.seq2seq.pseudo_queries > 0
    first, second, third = hi_gen.seq2seq.objective.weights_of_positions(3)
    assert first > second > third > 0
    assert resolve_system("hiergr", config).config.rqvae.code_shrinkage[0] > 1

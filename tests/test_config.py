"""Every configuration file can be frozen, and holds what it promises; what is no value is refused.

Expected numbers are those of the paper's section 4.1.
"""

import collections
import dataclasses
import pathlib
import re
import typing

import pytest

from catid2_jax.config import (
    SECTIONS,
    Config,
    UndeclaredSectionError,
    as_nested_dict,
    build,
    declared_values,
    default_config,
    default_options,
    freeze,
    view,
)
from catid2_jax.config_file import load_config, override
from catid2_jax.config_help import described_fields, descriptions, field_help
from catid2_jax.errors import InputError
from catid2_jax.resolution import resolve_system, resolve_systems

ROOT = pathlib.Path(__file__).parent.parent
SILVER = "benchmarks/configs/grocery.py"
FILES = [*(f"configs/{name}.py" for name in ("quickstart", "words", "rqvae", "seq2seq")), SILVER]


def change(config, *changes):
    """Changes fields as `--config.<change>` does."""
    assert override(config, ["verb", *(f"--config.{text}" for text in changes)]) == []


def changed(config, *changes):
    """The configuration itself, changed."""
    change(config, *changes)
    return config


def load(name, argument=""):
    return load_config(ROOT / name, argument)


def refused(error, where, found, expected=""):
    """`error` by its fields; `expected` is a part of what it says is expected."""
    assert (error.value.where, error.value.found) == (where, found)
    assert expected in error.value.expected


def test_default_configuration_freezes_to_the_dataclasses_defaults():
    frozen = freeze(default_config())
    assert frozen.options == default_options()
    assert dataclasses.replace(frozen, options={}) == Config()


@pytest.mark.parametrize("name", FILES)
def test_cat_id2_is_all_of_equation_8_and_tiger_is_equation_3(name):
    config = freeze(load(name))
    ours, tiger = (resolve_system(system, config).config for system in ("cat_id2", "tiger"))
    assert "cat_id2" in config.systems
    assert (ours.rqvae.levels, ours.rqvae.codebook_size, ours.rqvae.category_levels) == (4, 256, 3)
    w = ours.loss_weights
    assert (w.reconstruction, w.dispersion, w.hierarchical_class, w.cluster_scale) == (
        *(0.0, 0.1),
        *(1e-2, 0.3),
    )
    w = tiger.loss_weights
    assert w.reconstruction == 1.0
    assert (w.dispersion, w.hierarchical_class, w.cluster_scale) == (0.0, 0.0, 0.0)
    assert dataclasses.replace(tiger, loss_weights=ours.loss_weights) == ours


@pytest.mark.parametrize("name", FILES)
def test_the_argument_of_a_file_is_its_first_system(name):
    ours, tiger = freeze(load(name)), freeze(load(name, "tiger"))
    assert tiger.systems[0] == "tiger"
    assert dataclasses.replace(tiger, systems=ours.systems) == ours
    with pytest.raises(
        InputError, match="'nonsense', expected some of cat_id2, cat_id2_literal, tiger"
    ):
        resolve_systems(freeze(load(name, "nonsense")))


@pytest.mark.parametrize("codebook_size", [256, 512])
def test_paper_settings_are_those_of_section_4_1(codebook_size):
    config = load("configs/paper/table2.py", f"cat_id2_{codebook_size}")
    config.embedding.path = "vectors.npy"
    frozen = freeze(config)
    assert frozen.rqvae.codebook_size == codebook_size
    assert (frozen.rqvae_training.batch_size, frozen.rqvae_training.epochs) == (4096, 300)
    assert frozen.rqvae.hidden_dims == (2048, 1024, 512, 256, 128, 64)
    assert (frozen.t5.emb_dim, frozen.t5.num_encoder_layers, frozen.t5.mlp_dim) == (768, 12, 2048)


def test_nested_dict_holds_every_field_once():
    nested = as_nested_dict(Config())
    assert set(nested) == {field.name for field in dataclasses.fields(Config)}
    assert nested["data"]["preprocessing"]["minimum_depth"] == 3
    assert nested["rqvae"]["hidden_dims"] == (512, 256, 128)


def test_unknown_fields_are_refused_and_like_ones_named():
    config = default_config()
    with config.unlocked():
        config.rqvae.levelz = 3
    with pytest.raises(InputError) as error:
        freeze(config)
    refused(error, "config.rqvae.levelz", "no such field", "config.rqvae.levels")
    with pytest.raises(InputError) as error:
        build(Config, {"zzz": 3}, "settings")
    refused(error, "settings.zzz", "no such field", "one that --help lists")


@pytest.mark.parametrize(
    ("word", "where", "nearest"),
    [
        ("levels=3", "config.levels", "config.rqvae.levels"),
        ("rqva.levels=3", "config.rqva.levels", "config.rqvae.levels"),
        ("Seed=3", "config.Seed", "config.seed"),
        ("seed.x=3", "config.seed.x", "config.seed"),
        ("rqvae.levels.x=3", "config.rqvae.levels.x", "config.rqvae.levels"),
        ("data.preprocesing.minimum_depth=2", "", "config.data.preprocessing.minimum_depth"),
        ("t5_training.learning_rate=1", "", "config.rqvae_training.learning_rate"),
    ],
)
def test_an_unknown_field_is_answered_by_its_path_and_the_nearest(word, where, nearest):
    config = default_config()
    with pytest.raises(InputError) as error:
        freeze(changed(config, word))
    refused(error, where or f"config.{word.partition('=')[0]}", "no such field", nearest)
    assert str(error.value).count(error.value.where + ":") == 1


BAD_VALUES = {
    "text for an integer": ({"rqvae": {"levels": "4"}}, "rqvae.levels", "'4'", "an integer"),
    "a part of an integer": ({"rqvae": {"levels": 3.5}}, "rqvae.levels", "3.5", "an integer"),
    "a truth for an integer": ({"seed": True}, "seed", "True", "an integer"),
    "text for a number": ({"t5": {"dropout_rate": "x"}}, "t5.dropout_rate", "'x'", "a number"),
    "an integer for a truth": ({"evaluate": {"retrieval": 1}}, "evaluate.retrieval", "1", "True "),
    "a number for text": ({"data": {"catalog": 3}}, "data.catalog", "3", "text"),
    "one for several": ({"rqvae": {"hidden_dims": 8}}, "rqvae.hidden_dims", "8", "a tuple"),
    "text in several": ({"rqvae": {"hidden_dims": [8, "a"]}}, "rqvae.hidden_dims", "'a'", "an int"),
    "no choice": (
        {"loss_weights": {"negatives": "soft"}},
        "loss_weights.negatives",
        "'soft'",
        "one of 'hard', 'global'",
    ),
    "no section": ({"rqvae": 3}, "rqvae", "3", "a section with fields"),
    "no options": ({"options": 3}, "options", "3", "a dictionary"),
    "out of range": (
        {"seq2seq": {"evaluation": {"queries": -1}}},
        "seq2seq.evaluation.queries",
        "-1",
        "at least 0",
    ),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_values_of_another_type_or_range_are_refused(case):
    values, where, found, expected = BAD_VALUES[case]
    with pytest.raises(InputError) as error:
        build(Config, values, "config")
    refused(error, f"config.{where}", found, expected)


def test_an_integer_is_a_number_and_a_list_a_tuple():
    config = build(Config, {"t5": {"dropout_rate": 0}, "rqvae": {"hidden_dims": [8, 4]}}, "config")
    assert config.rqvae.hidden_dims == (8, 4)
    assert isinstance(config.t5.dropout_rate, float)


BETWEEN_SECTIONS = {
    "two systems of one name": (["systems=('bm25','bm25')"], "systems", "('bm25', 'bm25')"),
    "no system": (["systems=()"], "systems", "()"),
    "no such encoder": (["embedding.encoder=bert"], "embedding.encoder", "'bert'"),
    "no such decoder": (["seq2seq.decoder=gpt"], "seq2seq.decoder", "'gpt'"),
    "an encoder that forgets": (
        ["docids.previous=x"],
        "embedding.encoder",
        "'lsa' with docids.previous, though it is fitted to each catalogue anew",
    ),
    "vectors for a network of text": (
        [
            *("t5.memory_tokens=2", "seq2seq.pretrained=x", "seq2seq.vocabulary=y"),
            *("embedding.encoder=t5", "embedding.path=z"),
        ],
        "seq2seq.pretrained",
        "'x' with t5.memory_tokens = 2",
    ),
    "words beside no vectors": (
        ["seq2seq.word_features=9"],
        "seq2seq.word_features",
        "9 with t5.memory_tokens = 0",
    ),
    "two passes that are the same": (
        ["seq2seq.objective.r_drop=0.5"],
        "seq2seq.objective.r_drop",
        "0.5 without dropout",
    ),
    "an encoder without queries": (
        ["t5.memory_tokens=2"],
        "t5.memory_tokens",
        "2 with encoder 'lsa', which encodes no queries",
    ),
}


@pytest.mark.parametrize("case", BETWEEN_SECTIONS)
def test_sections_that_do_not_go_together(case):
    changes, where, found = BETWEEN_SECTIONS[case]
    config = default_config()
    change(config, *changes)
    with pytest.raises(InputError) as error:
        freeze(config)
    refused(error, f"config.{where}", found)


GIVEN = ("embedding.encoder=precomputed", "embedding.path=x.npy", "t5.memory_tokens=2")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ((), "embedding.train_query_vectors"),
        (("embedding.train_query_vectors=x.npy",), "embedding.test_query_vectors"),
        (
            ("embedding.train_query_vectors=x.npy", "seq2seq.evaluation.queries=5"),
            "embedding.dev_query_vectors",
        ),
        (
            ("embedding.train_query_vectors=x.npy", "retrieve.queries=q.jsonl"),
            "retrieve.query_vectors",
        ),
    ],
)
def test_query_vectors_that_are_not_given(changes, missing):
    config = default_config()
    change(config, *GIVEN, *changes)
    with pytest.raises(InputError) as error:
        freeze(config)
    refused(error, f"config.{missing}", "'' with t5.memory_tokens = 2", "a path, or 0 memory")
    change(config, f"{missing}=x.npy")
    if missing == "embedding.dev_query_vectors":
        change(config, "embedding.test_query_vectors=x.npy")
    if missing == "embedding.train_query_vectors":
        change(config, "embedding.test_query_vectors=x.npy")
    assert freeze(config).t5.memory_tokens == 2


@pytest.mark.parametrize(
    ("options", "where", "found"),
    [
        ({"clusters": {"lvl": 2}}, "config.options.clusters", "option 'lvl' for ClusterRetriever"),
        ({"bm25": {"k1": 2}}, "config.options.bm25", "option 'k1' for BM25Retriever"),
        ({"rqvae": {"levels": 2}}, "config.options.rqvae", "option 'levels' for RQVAEScheme"),
        ({"cluster": {"level": 2}}, "config.options", "'cluster'"),
    ],
)
def test_options_that_there_are_not(options, where, found):
    config = dataclasses.replace(Config(), systems=("clusters", "bm25", "tiger"), options=options)
    with pytest.raises(InputError) as error:
        resolve_systems(config)
    refused(error, where, found)


@pytest.mark.parametrize(
    ("options", "where", "found", "expected"),
    [
        ({"clusters": {"level": 0}}, "clusters.level", "0", "at least 1"),
        ({"clusters": {"level": "x"}}, "clusters.level", "'x'", "an integer"),
        ({"bm25": 3}, "bm25", "3", "a dictionary"),
        ({"random": {"levels": -2}}, "random.levels", "-2", "at least 1"),
        (
            {"residual_kmeans": {"category_weight": float("nan")}},
            *("residual_kmeans.category_weight", "nan", "a finite number"),
        ),
        (
            {"category_prefix": {"category_levels": 4}},
            *("category_prefix.category_levels", "4 with 4 levels", "less than levels"),
        ),
    ],
)
def test_options_of_another_type_or_range(options, where, found, expected):
    config = dataclasses.replace(Config(), systems=("category_prefix", "bm25"), options=options)
    with pytest.raises(InputError) as error:
        resolve_systems(config)
    refused(error, f"config.options.{where}", found, expected)


def test_settings_that_do_not_go_with_the_systems():
    few = dataclasses.replace(Config().retrieve, beams=5)
    with pytest.raises(InputError) as error:
        resolve_systems(dataclasses.replace(Config(), retrieve=few))
    refused(error, "config.retrieve.k", "100", "1 to beams = 5")
    # BM25 has no beams, and clusters find what is beneath theirs.
    resolve_systems(dataclasses.replace(Config(), retrieve=few, systems=("bm25", "clusters")))
    docids = dataclasses.replace(Config().docids, path="x.jsonl")
    with pytest.raises(InputError) as error:
        resolve_systems(dataclasses.replace(Config(), docids=docids))
    refused(error, "config.docids.path", "'x.jsonl' with systems ('cat_id2', 'bm25')", "'given'")
    resolve_systems(dataclasses.replace(Config(), docids=docids, systems=("given",)))


def overridden(*changes):
    config = default_config()
    change(config, *(path if text is None else f"{path}={text}" for path, text in changes))
    return freeze(config)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("seed", "7", 7),
        ("rqvae.codebook_size", "1_024", 1024),
        ("t5.dropout_rate", "0", 0.0),
        ("loss_weights.hierarchical_class", "1e-3", 1e-3),
        ("loss_weights.negatives", "global", "global"),
        ("retrieve.output", "3", "3"),
        ("data.catalog", "", ""),
        ("embedding.with_categories", "false", False),
        ("embedding.with_categories", "0", False),
        ("evaluate.retrieval", None, True),
        ("rqvae.hidden_dims", "(16,8)", (16, 8)),
        ("rqvae.hidden_dims", "[16]", (16,)),
        ("rqvae.hidden_dims", "16", (16,)),
        ("seq2seq.objective.position_weights", "()", ()),
        ("seq2seq.objective.position_weights", "(1,2,3,4)", (1.0, 2.0, 3.0, 4.0)),
        ("systems", "('tiger', 'bm25')", ("tiger", "bm25")),
        ("systems", "tiger", ("tiger",)),
        ("options.clusters.level", "3", 3),
        ("options.Mine.depth", "3", 3),
        ("options.Mine.kind", "deep", "deep"),
        ("embedding.options.width", "8", 8),
        ("embedding.options", "{'width': 8}", {"width": 8}),
    ],
)
def test_what_a_command_line_s_text_stands_for(path, text, value):
    found = overridden((path, text))
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert (found, type(found)) == (value, type(value))


def test_the_last_of_two_values_holds():
    assert overridden(("seed", "1"), ("seed", "2")).seed == 2


FAULTY = {
    "def get_config():\n    return 3\n": ("", "int from get_config()"),
    "x = 1\n": ("", "AttributeError: module 'configuration' has no attribute 'get_config'"),
    "def get_config():\n    \n    raise KeyError('k')\n": (":3", "KeyError: 'k'"),
    "from catid2_jax.config import default_config\n\n\ndef get_config():\n"
    "    config = default_config()\n    config.seed = 'x'\n    return config\n": (
        ":6",
        "TypeError: Could not override field 'seed'",
    ),
    "import nowhere\n": (":1", "ModuleNotFoundError: No module named 'nowhere'"),
    "def get_config(:\n": ("", "SyntaxError: invalid syntax"),
    "def get_config():\n    return open('/nowhere/x')\n": (":2", "FileNotFoundError: "),
}


@pytest.mark.parametrize("text", FAULTY)
def test_a_file_that_gives_no_configuration(tmp_path, text):
    where, found = FAULTY[text]
    path = tmp_path / "faulty.py"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_config(path)
    assert error.value.where == f"{path}{where}"
    assert found in error.value.found
    assert "ConfigDict" in error.value.expected


def test_a_file_that_takes_no_argument(tmp_path):
    (tmp_path / "plain.py").write_text("def get_config():\n    pass\n")
    with pytest.raises(InputError, match=r"get_config\(\) takes 0 positional arguments but 1 was"):
        load_config(tmp_path / "plain.py", "tiger")


def test_bad_input_that_a_file_raises_keeps_its_fields(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from catid2_jax.errors import InputError\n\n\n"
        "def get_config():\n    raise InputError('a place', 'this', 'that')\n"
    )
    with pytest.raises(InputError) as error:
        load_config(path)
    assert (error.value.where, error.value.found, error.value.expected) == (
        "a place",
        "this",
        "that",
    )


def test_a_view_is_what_is_declared_and_no_more():
    config = Config(seed=3)
    seen = view(config, ("rqvae", "data.preprocessing"), "step embed")
    assert seen.seed == 3
    assert seen.rqvae is config.rqvae
    assert seen.data.preprocessing is config.data.preprocessing
    for read in (lambda: seen.t5, lambda: seen.data.catalog, lambda: seen.data.synthetic):
        with pytest.raises(UndeclaredSectionError, match=r"step embed reads '(t5|cat|syn)"):
            read()


def test_declared_values_are_plain_and_by_their_path():
    config = dataclasses.replace(Config(), options={"clusters": {"level": 3}})
    names = ("loss_weights", "data.on_error", "options.clusters", "options.bm25")
    values = declared_values(config, names)
    assert list(values) == ["seed", *names]
    assert values["loss_weights"]["cluster_scale"] == 0.3
    assert values["data.on_error"] == "raise"
    assert (values["options.clusters"], values["options.bm25"]) == ({"level": 3}, {})


def test_what_changes_no_result_is_not_recorded():
    names = ("rqvae_training", "seq2seq")
    plain = declared_values(Config(), names)
    traced = dataclasses.replace(Config().rqvae_training, profile_steps=(3, 5))
    assert declared_values(dataclasses.replace(Config(), rqvae_training=traced), names) == plain
    fields = {field.name for field in dataclasses.fields(traced)}
    assert fields - set(plain["rqvae_training"]) == {"profile_steps"}
    assert plain["seq2seq"] == as_nested_dict(Config().seq2seq)


FIELDS = list(described_fields())


def all_fields(section, path):
    """Paths of the fields of a section's class."""
    for name, hint in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(hint):
            yield from all_fields(hint, f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def test_every_field_is_described_once_in_the_order_of_its_class():
    paths = [path for path, _, _ in FIELDS]
    options = [path for path in paths if path.startswith("config.options.")]
    named = {
        "bm25": "language tokens",
        "category_prefix": "category_levels codebook_size levels",
        "clusters": "level",
        "dpr": "mined product_tokens temperature",
        "fused": "constant systems",
        "genret": "batch_size codebook_size commitment hidden_dims latent_dim learning_rate levels "
        "retrieval steps temperature",
        "naive": "base padded",
        "nearest_query": "language substitutes",
        "random": "codebook_size levels",
        "residual_kmeans": "balanced category_weight codebook_size levels query_weight standardize",
        "tree_kmeans": "branches category_levels leaf_size levels",
    }
    assert options == [f"config.options.{n}.{option}" for n in named for option in named[n].split()]
    expected = [*all_fields(Config, "config")]
    start = expected.index("config.options")
    expected[start : start + 1] = options
    assert paths == expected
    assert len(paths) > 140


@pytest.mark.parametrize(("path", "value", "text"), FIELDS, ids=[path for path, _, _ in FIELDS])
def test_every_field_says_what_it_is_and_leans_on_no_other(path, value, text):
    assert text.endswith(".")
    assert not re.match(r"(of|as|likewise|see|from|the same|as above)\b", text, re.IGNORECASE)
    assert "  " not in text
    assert "likewise" not in text.lower()


def test_no_text_is_said_of_two_fields():
    twice = collections.Counter(text for path, _, text in FIELDS if "_training" not in path)
    assert [text for text, count in twice.items() if count > 1] == []


def test_descriptions_end_with_their_heading():
    class Described:
        """Something.

        Attributes:
            a: one
                and more.
            b: two, as in: three.

        Raises:
            c: never.
        """

    assert descriptions(Described) == {"a": "one and more.", "b": "two, as in: three."}
    assert descriptions(Described, "Args") == {}


def test_the_help_has_the_values_of_the_configuration():
    config = default_config()
    change(config, "rqvae.levels=3", "options.Mine.depth=5")
    text = field_help(config)
    assert (
        "\n    --config.rqvae.levels=3\n        L, tokens of a document ID. At least 1.\n" in text
    )
    assert "figure is better. One of 'min', 'max'.\n" in text
    assert "widths between the embedding and the latent; the decoder mirrors them. Each at " in text
    assert "the length of an ID. At least 1.\n" in text  # an option's, from its class
    assert "\n    --config.options.Mine.depth=5\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_sections_are_those_of_the_configuration():
    assert set(SECTIONS) == {
        *("data", "embedding", "rqvae", "loss_weights", "rqvae_training", "docids", "seq2seq"),
        *("t5", "seq2seq_training", "retrieve", "evaluate"),
    }

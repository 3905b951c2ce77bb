"""IDs of unequal length, some of which begin others, from the user's file to the export."""

import functools
import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import catid2_jax
from catid2_jax.config import default_config, freeze, view
from catid2_jax.docids.table import read_docids
from catid2_jax.docids.vocabulary import Vocabulary
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.loading import TRAINED_READS, load_model
from catid2_jax.models.t5.network import Transformer
from catid2_jax.resolution import resolve_system
from catid2_jax.steps import export
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, place_of

K, L, END = 4, 3, 0
CODES = {
    "red sofa": [0],
    "blue sofa": [0, 1],
    "old sofa": [0, 1, 2],
    "oak table": [1, 0],
    "small table": [1],
    "garden chair": [2, 2, 2],
    "office chair": [2, 2],
    "desk lamp": [3, 0, 1],
    "floor lamp": [3, 0, 2],
    "wall clock": [2],
    "wool rug": [0, 3, 3],
    "round mirror": [3, 1],
}
TITLES = list(CODES)
IDS = [f"p{n}" for n in range(len(TITLES))]
KINDS = ("full", "level", "valid")


def lines(path, values):
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    return str(path)


def config(data, **changes):
    values = default_config()
    values.systems = ("given",)
    values.data.catalog = str(data / "catalog.jsonl")
    for split in ("train", "test"):
        values.data[f"{split}_queries"] = str(data / "queries.jsonl")
        values.data[f"{split}_qrels"] = str(data / "qrels.txt")
    values.embedding.dim = 4
    values.docids.update(path=str(data / "ids.jsonl"), path_codebook_size=K)
    values.seq2seq.update(source_tokens=8, vocabulary_size=60)
    values.seq2seq.objective.normalize_over = "full"
    values.t5.update(
        emb_dim=32, num_heads=2, head_dim=16, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1
    )
    values.seq2seq_training.update(batch_size=24, epochs=100, learning_rate=5e-3)
    values.retrieve.update(beams=16, k=12, batch_size=4)
    values.evaluate.cutoffs = (1,)
    values.update_from_flattened_dict(changes)
    return freeze(values)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files as a user has them; the IDs in another order, with those of more products."""
    root = tmp_path_factory.mktemp("data")
    lines(
        root / "catalog.jsonl",
        (
            {"id": i, "title": t, "categories": ["A", t.split()[1], t]}
            for i, t in zip(IDS, TITLES, strict=True)
        ),
    )
    lines(root / "queries.jsonl", ({"id": f"q{n}", "text": t} for n, t in enumerate(TITLES)))
    (root / "qrels.txt").write_text("".join(f"q{n} 0 {i} 3\n" for n, i in enumerate(IDS)))
    table = [{"id": i, "codes": CODES[t]} for i, t in zip(IDS, TITLES, strict=True)]
    lines(root / "ids.jsonl", [*reversed(table), {"id": "gone", "codes": [3]}])
    return root


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """A work directory up to `evaluate`."""
    workdir = Workdir(tmp_path_factory.mktemp("work"))
    run_until(config(data), workdir, "evaluate")
    return workdir


LEVEL = {"seq2seq.objective.normalize_over": "level"}


@pytest.fixture(scope="module")
def trained_over_level(data, tmp_path_factory):
    """A work directory up to `retrieve` whose network has learnt nothing but its levels' codes."""
    workdir = Workdir(tmp_path_factory.mktemp("level"))
    run_until(config(data, **LEVEL), workdir, "retrieve")
    return workdir


@pytest.fixture(scope="module")
def scores(done, data):
    return log_probabilities(done, config(data))


def log_probabilities(workdir, settings):
    """By what a code competes with, the log-probability of each product's ID given a query."""
    place = place_of(resolve_system("given", settings), settings, workdir)
    params = load_model(settings, place).params
    vocabulary = Vocabulary(workdir.vocabulary, L, K)
    network = Transformer(settings.t5, vocabulary.rows)
    apply = jax.jit(functools.partial(network.apply, {"params": params}))
    sources = jnp.asarray(vocabulary.encode(TITLES, 8))
    found = {kind: np.zeros((len(TITLES), len(TITLES))) for kind in KINDS}
    for product, codes in enumerate(CODES.values()):
        tokens = [vocabulary.first_id_token + level * K + c for level, c in enumerate(codes)]
        inputs = jnp.tile(jnp.array([0, *tokens, *[0] * (L - 1 - len(codes))])[:L], (12, 1))
        logits = np.asarray(apply(sources, sources != 0, inputs), np.float64)
        wanted = tokens if len(codes) == L else [*tokens, END]
        for level, token in enumerate(wanted):
            for kind in KINDS:
                column = logits[:, level]
                among = competitors(kind, codes[:level], vocabulary, column.shape[1])
                logs = column[:, token] - np.log(np.exp(column[:, among]).sum(axis=1))
                found[kind][:, product] += logs
    return found


def competitors(kind, prefix, vocabulary, rows):
    """The tokens that a code of the level after a prefix competes with."""
    level = len(prefix)
    start = vocabulary.first_id_token + level * K
    if kind == "full":
        return np.arange(rows)
    if kind == "level":
        return [*range(start, start + K), *([END] if level else [])]
    ids = [codes for codes in CODES.values() if codes[:level] == prefix]
    return sorted({start + codes[level] if len(codes) > level else END for codes in ids})


def test_the_table_keeps_the_lengths(done):
    table = read_docids(done.root / "given/docids.jsonl", K)
    assert list(table.ids) == IDS
    assert table.codes.tolist() == [c + [-1] * (L - len(c)) for c in CODES.values()]
    record = json.loads((done.root / "given/steps/docids.json").read_text())
    assert record["result"] == {"levels": L, "codebook_size": K}


def test_the_network_learns_where_an_id_ends(done, scores):
    """Every title finds its product first, also where its ID begins another or is begun by one."""
    run = read_run(done.root / "given/run.trec")
    assert [run[f"q{n}"][0][0] for n in range(12)] == IDS
    metrics = json.loads(done.metrics.read_text())
    assert metrics["given/recall@1"] == 1.0
    # All levels count the documents that reach them: 4 of 4 codes, 4 of 4, and 3 of 4.
    assert [metrics[f"given/codes_used/level_{level}"] for level in (1, 2, 3)] == [1.0, 1.0, 0.75]
    own = np.exp(np.diagonal(scores["full"]))
    assert own.min() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_log_probabilities_of_the_codes_and_the_end(done, data, scores, kind):
    output = f"{kind}.trec"
    changes = {"retrieve.normalize_over": kind, "retrieve.output": output}
    run_until(config(data, **changes), done, "retrieve")
    check(read_run(done.root / "given" / output), scores[kind])
    if kind == "valid":
        np.testing.assert_allclose(np.exp(scores[kind]).sum(axis=1), 1.0)


def check(run, expected):
    """Every query's ranking is of all products, by their scores."""
    for query in range(12):
        found = run[f"q{query}"]
        best = np.argsort(-expected[query])
        assert [product for product, _ in found] == [IDS[n] for n in best]
        np.testing.assert_allclose([s for _, s in found], expected[query, best], atol=1e-4)


def test_what_is_trained_over_the_level_is_searched_over_the_level(trained_over_level, data):
    root = trained_over_level.root
    expected = log_probabilities(trained_over_level, config(data, **LEVEL))
    run = read_run(root / "given/run.trec")
    assert [run[f"q{n}"][0][0] for n in range(12)] == IDS
    check(run, expected["level"])
    # Of the probability of an ID, only what is shared within the levels is learnt.
    assert np.exp(np.diagonal(expected["level"])).min() > 0.99
    assert np.exp(np.diagonal(expected["full"])).max() < 0.9
    assert catid2_jax.load(root, "given").retriever.model.normalize_over == "level"
    with pytest.raises(InputError) as error:
        catid2_jax.load(root, "given", normalize_over="full")
    assert error.value.where == "config.retrieve.normalize_over"
    with pytest.raises(InputError) as error:
        run_until(config(data), trained_over_level, "retrieve")
    assert "objective.normalize_over = 'level', and now 'full'" in error.value.found


@pytest.mark.parametrize("over", ["full", "level"])
def test_the_export_has_the_same_scores(request, data, over):
    workdir = request.getfixturevalue("done" if over == "full" else "trained_over_level")
    settings = config(data, **({} if over == "full" else LEVEL))
    system = resolve_system("given", settings)
    place = place_of(system, settings, workdir)
    # Checks at run time know no shape with a symbol for the batch size.
    jaxtyping.config.update("jaxtyping_disable", True)
    export.run(view(settings, ("retrieve", *TRAINED_READS), "export"), place, system)
    jaxtyping.config.update("jaxtyping_disable", False)
    folder = workdir.root / "given/export"
    assert json.loads((folder / "export.json").read_text())["normalize_over"] == over
    function = jax.export.deserialize(bytearray((folder / "retrieve.stablehlo").read_bytes()))
    tokens = Vocabulary(folder / "vocabulary.model", L, K).encode(TITLES, 8)
    with np.load(folder / "arrays.npz") as arrays:
        found = jax.jit(function.call)(dict(arrays), tokens)
    products = (folder / "products.txt").read_text().split()
    rows = zip(found["documents"].tolist(), found["scores"].tolist(), strict=True)
    run = {
        f"q{query}": [(products[d], s) for d, s in zip(*row, strict=True)]
        for query, row in enumerate(rows)
    }
    check(run, log_probabilities(workdir, settings)[over])
    assert np.asarray(found["exact"]).all()

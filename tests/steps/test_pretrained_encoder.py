"""Stage 2 over a tiny BERT, from the user's files to the ranking, the export and the Python API."""

import json
import shutil

import jax
import jaxtyping
import numpy as np
import pytest
import tokenizers

import catid2_jax
from catid2_jax import convert_checkpoint
from catid2_jax.checkpoints.bert import read_bert
from catid2_jax.checkpoints.tree import flatten
from catid2_jax.config import default_config, freeze, view
from catid2_jax.docids.table import DocidTable, write_docids
from catid2_jax.errors import InputError
from catid2_jax.evaluation.run_file import read_run
from catid2_jax.loading import TRAINED_READS
from catid2_jax.resolution import resolve_system
from catid2_jax.steps import export
from catid2_jax.steps.chain import run_until
from catid2_jax.training.sampler import EpochSampler
from catid2_jax.types import Product
from catid2_jax.workdir import Workdir, place_of
from tests.checkpoints.bert_folder import write_bert

COLORS, THINGS = ("red", "blue", "green", "black"), ("shoe", "lamp", "mug", "hose")
TITLES = [f"{color} {thing}" for color in COLORS for thing in THINGS]
IDS = [f"p{n}" for n in range(len(TITLES))]
CODES = np.array([[n // 4, n % 4] for n in range(len(TITLES))])
# A query names its product the other way round.
QUERIES = {f"q{n}": " of ".join(reversed(title.split())) for n, title in enumerate(TITLES)}
QRELS = {f"q{n}": {f"p{n}": 3} for n in range(len(TITLES))}
T5 = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 32, "num_decoder_layers": 1}
SEQ2SEQ = {
    "source_tokens": 8,
    "encoder_learning_rate": 0.5,
    "objective": {"source_dropout": 0.1},
}
TRAINING = {"batch_size": 16, "epochs": 80, "learning_rate": 5e-3, "warmup_steps": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_bert(root / "bert", [*TITLES, "of"], num_hidden_layers=1)
    products = [
        {"id": i, "title": t, "categories": ["All", "Any", t.split()[1]]}
        for i, t in zip(IDS, TITLES, strict=True)
    ]
    (root / "catalog.jsonl").write_text("\n".join(map(json.dumps, products)))
    np.save(root / "catalog.npy", np.random.default_rng(0).normal(size=(16, 4)).astype("f4"))
    for split in ("train", "test"):
        queries = [json.dumps({"id": q, "text": text}) for q, text in QUERIES.items()]
        judged = [f"{q} 0 p{q[1:]} 3" for q in QUERIES]
        (root / f"queries.{split}.jsonl").write_text("\n".join(queries))
        (root / f"qrels.{split}.txt").write_text("\n".join(judged))
    write_docids(root / "ids.jsonl", DocidTable(IDS, CODES))
    return root


def config(data, **changes):
    values = default_config()
    values.systems = ("given",)
    values.data.catalog = str(data / "catalog.jsonl")
    for split in ("train", "test"):
        values.data[f"{split}_queries"] = str(data / f"queries.{split}.jsonl")
        values.data[f"{split}_qrels"] = str(data / f"qrels.{split}.txt")
    values.embedding.update(encoder="precomputed", path=str(data / "catalog.npy"))
    values.docids.path = str(data / "ids.jsonl")
    values.seq2seq.update(pretrained_encoder=str(data / "bert"), **SEQ2SEQ)
    values.t5.update(T5)
    values.seq2seq_training.update(TRAINING)
    values.retrieve.update(beams=16, k=3)
    values.evaluate.cutoffs = (1, 3)
    values.update_from_flattened_dict(changes)
    return freeze(values)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished work directory, which no test changes; the BERT's folder is no longer there."""
    workdir = Workdir(tmp_path_factory.mktemp("work"))
    shutil.copytree(data / "bert", data / "gone")
    run_until(
        config(data, **{"seq2seq.pretrained_encoder": str(data / "gone")}), workdir, "evaluate"
    )
    shutil.rmtree(data / "gone")
    return workdir


def test_every_query_finds_its_product(trained):
    run = read_run(trained.root / "given/run.trec")
    assert {q: hits[0][0] for q, hits in run.items()} == {q: f"p{q[1:]}" for q in QUERIES}
    figures = json.loads(trained.metrics.read_text())
    assert figures["given/recall@1"] == 1.0
    assert not trained.vocabulary.exists()
    folder = trained.root / "given/encoder"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "tokenizer.json"]


def test_filters_and_other_words_hold_from_python(trained):
    retriever = catid2_jax.load(trained.root)
    everything = retriever.search("shoe of red", k=3)
    assert everything[0].product.title == "red shoe"
    filtered = retriever.search(
        "shoe of red", k=3, deny_ids=["p0"], allow_categories=["All > Any > shoe"]
    )
    assert len(filtered) == 3
    assert {hit.product.title.split()[1] for hit in filtered} == {"shoe"}
    assert "p0" not in {hit.product.id for hit in filtered}


def test_the_export_runs_on_the_tokens_of_its_file(trained, data):
    settings = config(data)
    system = resolve_system("given", settings)
    place = place_of(system, settings, trained)
    # Checks at run time know no shape with a symbol for the batch size.
    jaxtyping.config.update("jaxtyping_disable", True)
    export.run(view(settings, ("retrieve", *TRAINED_READS), "export"), place, system)
    jaxtyping.config.update("jaxtyping_disable", False)
    folder = trained.root / "given/export"
    assert not (folder / "vocabulary.model").exists()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = np.array([text.ids for text in tokenizer.encode_batch([*QUERIES.values()])], np.int32)
    assert tokens.shape == (16, json.loads((folder / "export.json").read_text())["source_tokens"])
    function = jax.export.deserialize(bytearray((folder / "retrieve.stablehlo").read_bytes()))
    with np.load(folder / "arrays.npz") as arrays:
        found = jax.jit(function.call)(dict(arrays), tokens)
    run = read_run(trained.root / "given/run.trec")
    for query, documents in zip(QUERIES, found["documents"].tolist(), strict=True):
        assert [IDS[document] for document in documents] == [d for d, _ in run[query]]


def test_it_is_no_t5_to_convert(trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        convert_checkpoint.main(
            ["program", f"--from={trained.root}", f"--to={tmp_path / 'x'}", "--format=t5x"]
        )
    assert "found a network with an encoder of its own" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_bytes(data, tmp_path, monkeypatch):
    settings = config(
        data,
        **{
            "seq2seq_training.epochs": 4,
            "seq2seq_training.checkpoint_every": 1,
            "seq2seq_training.steps_per_dispatch": 2,
        },
    )
    runs = []
    original = EpochSampler.__call__
    for first in (-1, 4):

        def killed(self, start, steps, first=first):
            if steps == 2 and start == first:
                raise ConnectionAbortedError
            return original(self, start, steps)

        workdir = Workdir(tmp_path / str(first))
        monkeypatch.setattr(EpochSampler, "__call__", killed)
        if first > 0:
            with pytest.raises(ConnectionAbortedError):
                run_until(settings, workdir, "retrieve")
        monkeypatch.setattr(EpochSampler, "__call__", original)
        run_until(settings, workdir, "retrieve")
        runs.append((workdir.root / "given/run.trec").read_bytes())
    assert runs[0] == runs[1]


def products():
    return catid2_jax.Catalog.from_products(
        Product(i, t, "", ("All",)) for i, t in zip(IDS, TITLES, strict=True)
    )


def train(data, directory=None, **settings):
    settings = T5 | SEQ2SEQ | {"seq2seq_training": TRAINING, "beams": 16} | settings
    settings["pretrained_encoder"] = str(data / "bert")
    ids = DocidTable(IDS, CODES)
    return catid2_jax.train_retriever(
        products(), ids, QUERIES, QRELS, directory=directory, **settings
    )


def test_from_python(data, tmp_path):
    retriever = train(data, tmp_path)
    found = [hits[0].product.id for hits in retriever.search(list(QUERIES.values()), k=1)]
    assert found == IDS
    assert (tmp_path / "encoder/tokenizer.json").exists()
    assert not (tmp_path / "vocabulary.model").exists()
    trained, pretrained = retriever.retriever.model.params["bert"], read_bert(data / "bert")
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), trained, pretrained)
    assert all(leaf > 1e-3 for name, leaf in flatten(moved).items() if name.endswith("kernel"))
    # No text has a letter of its own.
    letters = [tree["word_embeddings"]["embedding"][5:77] for tree in (trained, pretrained)]
    np.testing.assert_array_equal(*letters)


@pytest.mark.slow
def test_an_encoder_of_rate_0_stays_as_it_is(data):
    training = TRAINING | {"epochs": 2}
    retriever = train(data, encoder_learning_rate=0.0, seq2seq_training=training)
    encoder = retriever.retriever.model.params["bert"]
    jax.tree.map(np.testing.assert_array_equal, encoder, read_bert(data / "bert"))


@pytest.mark.parametrize(
    ("settings", "where", "found"),
    [
        ({"memory_tokens": 2}, "pretrained_encoder", "with memory_tokens = 2"),
        ({"source_tokens": 17}, "seq2seq.source_tokens", "17"),
        ({"model_devices": 2}, "num_attention_heads of the pretrained encoder", "3"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(data, settings, where, found):
    with pytest.raises(InputError) as error:
        train(data, **settings)
    assert error.value.where == where
    assert error.value.found.endswith(found)


def test_vectors_and_a_pretrained_encoder_do_not_go_together(data):
    with pytest.raises(InputError) as error:
        config(data, **{"t5.memory_tokens": 2})
    assert error.value.where == "config.seq2seq.pretrained_encoder"

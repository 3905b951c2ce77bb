"""What README.md and docs/ say: commands parse, code runs, links lead somewhere, lines wrap."""

import contextlib
import dataclasses
import functools
import importlib
import json
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import catid2_jax
from catid2_jax import cli, import_data, losses
from catid2_jax.ablations import ABLATIONS
from catid2_jax.config import SECTIONS, Config, default_config
from catid2_jax.data.preprocessing import PreprocessingConfig
from catid2_jax.decoding.trie import build_trie
from catid2_jax.docids.quality import docid_quality
from catid2_jax.encoders.config import EmbeddingConfig
from catid2_jax.encoders.registry import ENCODERS, make_encoder
from catid2_jax.models.rqvae import RQVAEConfig
from catid2_jax.models.t5.config import T5Config
from catid2_jax.plugins import is_dotted, options_of
from catid2_jax.remote.bucket import is_remote
from catid2_jax.reporting.config import ReportConfig
from catid2_jax.resolution import resolve_system, resolve_systems
from catid2_jax.retrievers.bm25 import BM25Retriever
from catid2_jax.retrievers.config import RetrieveConfig
from catid2_jax.retrievers.retriever import TRAINED, resolve_retriever
from catid2_jax.schemes.rqvae.scheme import RQVAEScheme
from catid2_jax.schemes.scheme import make_scheme, resolve_scheme
from catid2_jax.seq2seq.search import retrieve
from catid2_jax.serving.config import ServeConfig
from catid2_jax.systems import SYSTEMS
from catid2_jax.training.optimizer import TrainingConfig
from tests.test_layering import LAYERS

ROOT = pathlib.Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
ALL = [
    *PAGES,
    *RESULTS,
    *(ROOT / f"{page}.md" for page in ("BENCHMARKS", "CHANGELOG", "CONTRIBUTING")),
]

KINDS = {  # path -> titles of its products
    ("Shoes", "Men", "Boots"): ("waterproof hiking boots", "leather boots"),
    ("Shoes", "Kids", "Boots"): ("hiking boots for kids", "rubber boots"),
    ("Outdoor", "Clothing", "Jackets"): ("rain jacket", "down jacket", "boots bag"),
    ("Home", "Living Room", "Sofas"): ("sofa bed", "corner sofa", "two seat sofa"),
    ("Garden", "Watering", "Hoses"): ("garden hose", "hose reel", "soaker hose"),
}


def name(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    """Texts of a page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.S | re.M)


def without_code(path):
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.S | re.M)


def modules():
    """File name -> text of each Python block that says what file it is."""
    found = [text for path in DOCS for text in blocks(path, "python")]
    named = {re.match(r"# (\w+\.py)", text): text for text in found}
    return {match[1]: text for match, text in named.items() if match}


def commands(text):
    """(verb, arguments) of each command of the package in a shell script."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        starts = [0, *(i + 1 for i, word in enumerate(words) if word in ("&&", "||", ";", "|"))]
        for start, end in zip(starts, [*(s - 1 for s in starts[1:]), None], strict=True):
            program, *rest = words[start:end] or [""]
            if pathlib.Path(program).name == "catid2":
                yield rest[0], rest[1:]
            elif rest[:2] == ["-m", "catid2_jax.t5x"]:
                assert f"t5x.{rest[2]}" in ("t5x.train", "t5x.infer", "t5x.eval")
            elif rest[:1] == ["-m"] and rest[1].startswith("catid2_jax."):
                yield rest[1].removeprefix("catid2_jax."), rest[2:]
            elif program == "python" and rest[0].startswith("launch/"):
                yield rest[0], rest[1:]


COMMANDS = [
    pytest.param(*command, id=f"{name(page)}-{number}-{command[0]}")
    for page in PAGES
    for number, command in enumerate(c for text in blocks(page, "bash") for c in commands(text))
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with the configurations, and with the modules that the pages show."""
    for file, text in modules().items():
        (tmp_path / file).write_text(text, "utf-8")
        monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "launch.yaml").symlink_to(ROOT / "launch" / "launch.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for file in modules():
        sys.modules.pop(file.removesuffix(".py"), None)


@pytest.fixture
def check(folder, monkeypatch):
    """Runs a command as far as its work; what is wrong ends it with SystemExit or an assertion."""
    opened = cli.opened

    def open_local(path, where):
        return contextlib.nullcontext(folder) if is_remote(path) else opened(path, where)

    monkeypatch.setattr(cli, "opened", open_local)

    def run(verb, arguments):
        if verb.startswith("launch/"):
            dry = [sys.executable, ROOT / verb, "--dry_run", *arguments]
            subprocess.run(dry, check=True, capture_output=True)
            place = next(i for i, word in enumerate(arguments) if not word.startswith("-"))
            verb, arguments = arguments[place], arguments[place + 1 :]
        assert verb in cli.VERBS
        module = importlib.import_module(f"catid2_jax.{verb}")
        if verb == "import_data":
            config = import_data.SOURCES[arguments[0]][0]
            monkeypatch.setitem(import_data.SOURCES, arguments[0], (config, lambda config: ()))
        elif verb == "serve":
            monkeypatch.setattr(module, "_serve", lambda workdir, config: None)
        elif verb == "report":
            monkeypatch.setattr(module, "_report", lambda paths, config: None)
        elif verb == "convert_checkpoint":
            monkeypatch.setattr(module, "_convert", lambda flags: None)
        elif verb == "reproduce":
            monkeypatch.setattr(module, "reproduce", lambda flags, config, _: check_rows(flags))
        else:
            monkeypatch.setattr(module, "run", lambda config, workdir: check_config(config))
        cli.console(["catid2", verb, *arguments])

    return run


def check_rows(flags):
    """The rows of a table that is asked for exist."""
    for system in flags.grid.systems:
        resolve_system(system, Config())


def check_config(config):
    """Its systems and its encoder exist, and so do the options that it sets for them."""
    for system in resolve_systems(config).values():
        row = system.row
        known = options_of(resolve_retriever(row.retriever), 3 if row.retriever in TRAINED else 1)
        assert set(system.options) <= set(known)
        if row.scheme:
            sections = {section: getattr(system.config, section) for section in system.sections}
            make_scheme(resolve_scheme(row.scheme), sections, system.scheme_options)
    if is_dotted(config.embedding.encoder):
        make_encoder(config.embedding)
    else:
        assert config.embedding.encoder in (*ENCODERS, "precomputed")


@pytest.mark.parametrize(("verb", "arguments"), COMMANDS)
def test_commands_parse(check, verb, arguments):
    check(verb, arguments)


@pytest.mark.parametrize(
    "command",
    [
        "catid2 assign --config=quickstart --config.rqvae.codes=64",
        "catid2 assign --config=quickstart --config.rqvae.codebook_size=many",
        "catid2 assign --config=configs/none.py",
        "catid2 pipeline --config=quickstart --config.systems=tigger",
        "catid2 import_data csv --output=shop --file=shop.csv",
        "catid2 convert_checkpoint --from=a --to=b --format=c",
        "catid2 assign quickstart",
    ],
)
def test_wrong_commands_do_not_parse(check, command):
    ((verb, arguments),) = commands(command)
    with pytest.raises((SystemExit, catid2_jax.InputError)) as error:
        check(verb, arguments)
    assert getattr(error.value, "code", 2) == 2


def test_commands_are_found_in_scripts():
    script = "cd x && .venv/bin/catid2 embed --a=1 \\\n  --b='2 3'  # c\npython -m catid2_jax.train"
    assert list(commands(script)) == [("embed", ["--a=1", "--b=2 3"]), ("train", [])]
    assert len(COMMANDS) > 20


def test_every_verb_is_described():
    text = (ROOT / "docs" / "training.md").read_text() + (ROOT / "docs" / "data.md").read_text()
    assert {verb for verb in cli.VERBS if f"`{verb}`" not in text} == {"convert_checkpoint"}
    assert "`catid2 convert_checkpoint`" in text


def test_fields_in_the_text_exist():
    """`config.section.field` and `section.field=value` in prose and tables."""
    defaults = default_config()
    pattern = re.compile(
        rf"`(?:--)?(?:config\.)?((?:{'|'.join(SECTIONS)})\.[a-z0-9_.]+)(?<!\.stablehlo)(?<!\.jsonl)[`=]"
    )
    found = {(name(page), path) for page in PAGES for path in pattern.findall(without_code(page))}
    assert len(found) > 40
    for page, path in sorted(found):
        section = defaults
        for part in path.split("."):
            assert part in section, f"{page}: {path}"
            section = section[part]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("search.md", [field.name for field in dataclasses.fields(RetrieveConfig)]),
        ("serving.md", [field.name for field in dataclasses.fields(ServeConfig)]),
        ("report.md", [field.name for field in dataclasses.fields(ReportConfig)]),
        ("embeddings.md", [field.name for field in dataclasses.fields(EmbeddingConfig)]),
        ("data.md", [field.name for field in dataclasses.fields(PreprocessingConfig)]),
        ("data.md", list(import_data.SOURCES)),
        ("training.md", [row for row in SYSTEMS if row not in ABLATIONS]),
        ("plugins.md", list(losses.TERMS)),
        ("equations.md", list(losses.TERMS)),
        ("python.md", list(catid2_jax.__all__)),
    ],
)
def test_pages_describe_everything(page, names):
    text = without_code(ROOT / "docs" / page)
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}
    assert [name for name in names if name not in words] == []


def test_rows_of_the_tables_exist():
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    named = set(re.findall(r"\b(?:table\d|figure5)_[\w.]+\w", text)) - {"table2_py"}
    assert len(named) > 20
    assert named <= set(SYSTEMS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles(page):
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")


@pytest.mark.parametrize("page", ALL, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", without_code(place), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_the_index_has_every_page():
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert {page.name for page in DOCS} - set(re.findall(r"\((\w+\.md)\)", text)) == {"index.md"}


@pytest.mark.parametrize("page", ALL, ids=name)
def test_prose_wraps(page):
    long = []
    for line in without_code(page).splitlines():
        prose = re.sub(r"\]\([^)]*\)", "]", line)
        if len(prose) > 100 and not line.startswith(("|", "    ", "<!-- generated")):
            long.append(line)
    assert long == []


def test_contributing_names_the_layers():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    layers = [part.split() for part in re.search(r"`(errors <[^`]+)`", text)[1].split("<")]
    *modules, entry_points = map(sorted, LAYERS)
    assert [sorted(layer) for layer in layers] == [*modules, ["entry", "points"]]
    assert set(entry_points) == set(cli.VERBS)


def make_catalog():
    products = [
        catid2_jax.Product(title.replace(" ", "-"), title, "", path)
        for path, titles in KINDS.items()
        for title in titles
    ]
    return catid2_jax.Catalog.from_products(products)


def encoder(width=32):
    section = EmbeddingConfig(encoder="hashed_words:HashedWords", options={"width": width})
    return make_encoder(section)


def test_the_scheme_of_the_page(folder):
    catalog = make_catalog()
    embeddings = np.zeros((len(catalog), 2), np.float32)
    table = catid2_jax.learn_docids(catalog, embeddings, "category_docids:CategoryDocids", depth=2)
    assert table.codes[:5].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    shallow = catid2_jax.learn_docids(
        catalog, embeddings, "category_docids:CategoryDocids", depth=5
    )
    assert shallow.codes[1].tolist() == [0, 0, 0, 1, -1, -1]
    with pytest.raises(catid2_jax.InputError, match="levels"):
        catid2_jax.learn_docids(catalog, embeddings, "category_docids:CategoryDocids", levels=2)


def test_the_encoder_of_the_page(folder):
    vectors = encoder().encode(["sofa bed", "bed sofa", "garden hose"])
    assert vectors.shape == (3, 32)
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(encoder().encode(["garden hose"])[0], vectors[2])
    assert np.abs(vectors).sum(axis=1).tolist() == [2, 2, 2]


def test_the_retriever_of_the_page(folder):
    from dense_retriever import DenseRetriever

    catalog, texts = make_catalog(), encoder(256)
    corpus = catid2_jax.Corpus(catalog, texts.encode(catalog.titles))
    retriever = catid2_jax.ProductRetriever("dense", catalog, DenseRetriever(corpus))
    vectors = texts.encode(["sofa bed", "hose"])
    both = retriever.search(["sofa bed", "hose"], k=3, vectors=vectors)
    assert both[0][0].product.title == "sofa bed"
    assert all("hose" in hit.product.title for hit in both[1])
    found = retriever.search("sofa bed", k=20, vectors=vectors[0], allow_categories=["Shoes"])
    assert {hit.product.categories[0] for hit in found} == {"Shoes"}
    assert len(found) == 4


@pytest.mark.parametrize("normalize_over", ["full", "level"])
def test_the_decoder_of_the_page_finds_what_it_is_trained_on(folder, normalize_over):
    """The search's scores are those of the training's logits."""
    from bigram_decoder import BigramDecoder

    levels, size, first = 3, 4, 7
    decoder = BigramDecoder(T5Config(emb_dim=8), 32, first, levels, size)
    generator = np.random.default_rng(0)
    codes = np.unique(generator.integers(size, size=(12, levels)), axis=0)
    codes[0, -1] = -1  # a shorter ID
    params = decoder.initialize(jax.random.key(0), jax.ShapeDtypeStruct((5,), jnp.int32))
    params = jax.tree.map(lambda leaf: 10 * leaf, params)
    sources = jnp.array([[3, 4, 1, 0, 0], [5, 6, 3, 2, 1]])
    trie = build_trie(codes, size)
    search = jax.jit(retrieve, static_argnames=("decoder", "beams", "k", "normalize_over"))
    found = search(
        decoder,
        params,
        sources,
        trie,
        beams=len(codes),
        k=len(codes),
        normalize_over=normalize_over,
    )

    tokens = np.where(codes < 0, 0, codes + first + np.arange(levels) * size)
    for query in range(2):
        rows = jnp.tile(sources[query], (len(codes), 1))
        logits = np.asarray(decoder.logits(params, rows, jnp.asarray(tokens)), np.float64)
        if normalize_over == "level":
            some = decoder.logits(
                params, rows, jnp.asarray(tokens), normalize_over="level", ends=True
            )
            for level in range(levels):
                own = [*range(first + level * size, first + (level + 1) * size), 0]
                np.testing.assert_allclose(some[:, level], logits[:, level, own], rtol=1e-5)
                logits[:, level, np.setdiff1d(np.arange(32), own)] = -np.inf
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        scores = np.take_along_axis(log_p, tokens[..., None], -1)[..., 0].sum(-1)
        order = np.asarray(found.documents[query])
        assert sorted(order.tolist()) == list(range(len(codes)))
        np.testing.assert_allclose(found.scores[query], scores[order], rtol=1e-4)


@pytest.mark.parametrize("normalize_over", ["full", "level"])
def test_the_decoder_of_the_page_trains(folder, normalize_over):
    catalog = make_catalog()
    embeddings = np.zeros((len(catalog), 2), np.float32)
    docids = catid2_jax.learn_docids(catalog, embeddings, "category_docids:CategoryDocids")
    queries = {product.id: product.title for product in catalog}
    retriever = catid2_jax.train_retriever(
        catalog,
        docids,
        queries,
        {query: {query: 3} for query in queries},
        decoder="bigram_decoder:BigramDecoder",
        objective={"normalize_over": normalize_over},
        vocabulary_size=120,
        emb_dim=16,
        beams=13,
        seq2seq_training={"batch_size": 16, "epochs": 40, "learning_rate": 0.05},
    )
    found = [retriever.search(text, k=1)[0].product.id for text in queries.values()]
    assert np.mean([a == b for a, b in zip(found, queries, strict=True)]) > 0.6


def test_the_systems_of_the_page(folder):
    config = default_config()
    config.systems = tuple(f"shop_systems:{row}" for row in ("DEEP", "CATEGORIES", "CLUSTERS"))
    config.options.CategoryDocids = {"depth": 2}
    deep, categories, clusters = resolve_systems(cli.freeze(config)).values()
    assert (deep.config.rqvae.levels, categories.config.rqvae.levels) == (5, 4)
    assert deep.config.loss_weights.hierarchical_class == 1e-3
    assert categories.config.seq2seq_training.epochs == 5
    assert categories.scheme_options["depth"] == 2
    assert (categories.model_name, clusters.model_name) == ("CATEGORIES", "cat_id2")


@dataclasses.dataclass(frozen=True)
class WithUsage(losses.LossWeights):
    """What `LossWeights` would be with the field of the page."""

    usage: float = 0.5


def test_the_loss_term_of_the_page(folder, monkeypatch):
    (text,) = (t for t in blocks(ROOT / "docs" / "plugins.md", "python") if "usage_term" in t)
    names = {}
    exec(compile(text, "plugins.md", "exec"), names)
    monkeypatch.setitem(losses.TERMS, "usage", names["usage_term"])

    uniform = jnp.full((3, 8), -jnp.log(8.0))
    collapsed = jnp.log(jnp.full((3, 8), 1e-9).at[:, 2].set(1.0))
    for log_probabilities, expected in ((uniform, 0.0), (collapsed, 7.0)):
        nothing, levels = jnp.zeros((3, 1)), [log_probabilities] * 2
        categories = jnp.zeros((3, 1), jnp.int32)
        inputs = losses.TermInputs(
            nothing, nothing, [nothing] * 2, levels, nothing, categories, jax.random.key(0)
        )
        loss = names["usage_term"](inputs, WithUsage())
        assert float(loss) == pytest.approx(2 * expected, abs=1e-5)

    catalog = make_catalog()
    scheme = RQVAEScheme(
        RQVAEConfig(
            levels=2,
            codebook_size=8,
            category_levels=0,
            latent_dim=4,
            hidden_dims=(8,),
            codebook_start="random",
        ),
        WithUsage(),
        TrainingConfig(batch_size=8, epochs=1),
    )
    run = catid2_jax.Run("usage", folder)
    table = scheme.fit(catid2_jax.Corpus(catalog, encoder().encode(catalog.titles)), run)
    assert len(np.unique(table.codes, axis=0)) == len(catalog)
    check_figures(run.figures | docid_figures(table, catalog))


def docid_figures(table, catalog):
    categories = np.unique([path[-1] for path in catalog.paths], return_inverse=True)[1]
    neighbors = np.array([[0, 1], [2, 3]])
    return docid_quality(table.codes, table.codebook_size, categories[:, None], neighbors)


def check_figures(figures):
    """Every figure that IDs are measured by is in the table of docs/training.md."""
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    names = {re.sub(r"/level_\d+$", "/level_l", figure) for figure in figures}
    names = {figure for figure in names if not figure.startswith("before_reassignment/")}
    assert len(names) > 10
    assert {figure for figure in names if f"`{figure}`" not in text} == set()


@pytest.mark.parametrize(
    "lighter",
    [
        pytest.param({}, marks=pytest.mark.slow, id="as_written"),
        pytest.param(
            {
                "learn_docids": {"codebook_start": "random"},
                "train_retriever": {"decoder": "bigram_decoder:BigramDecoder"},
            },
            id="lighter",
        ),
    ],
)
def test_the_python_of_the_pages_runs(folder, monkeypatch, capsys, lighter):
    """docs/python.md from top to bottom, and the search of docs/search.md, which loads the same."""
    for function, settings in lighter.items():
        partial = functools.partial(getattr(catid2_jax, function), **settings)
        monkeypatch.setattr(catid2_jax, function, partial)
    catalog = make_catalog()
    lines = [{"id": p.id, "title": p.title, "categories": list(p.categories)} for p in catalog]
    (folder / "catalog.jsonl").write_text("\n".join(map(json.dumps, lines)))
    np.save(folder / "embeddings.npy", encoder().encode(catalog.titles))
    bm25 = BM25Retriever(catid2_jax.Corpus(catalog))
    loaded = catid2_jax.ProductRetriever("bm25", catalog, bm25)
    monkeypatch.setattr(catid2_jax, "load", lambda workdir: loaded)
    names = {}
    first, *_ = blocks(ROOT / "docs" / "search.md", "python")
    for text in (first, *blocks(ROOT / "docs" / "python.md", "python")):
        exec(compile(text, "python.md", "exec"), names)
    assert "kids" not in " ".join(hit.product.title for hit in names["hits"])
    assert {hit.product.categories[0] for hit in names["boots"]} == {"Shoes", "Outdoor"}
    assert names["docids"].codes.shape == (len(catalog), 3)
    assert len(names["trained"].search("hose", k=20)) == len(catalog)

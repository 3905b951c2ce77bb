"""Settings: those out of their range are refused at once, rare ones work."""

import pathlib
import shutil

from tests.faults.runs import on, run

OUT_OF_RANGE = (
    *("t5.dropout_rate=2", "t5.dropout_rate=-1", "t5.num_encoder_layers=-1", "t5.num_heads=0"),
    *("t5.dtype='foo'", "rqvae.hidden_dims=(0,)", "rqvae.codebook_size=0"),
    *("rqvae_training.weight_decay=-1.0", "rqvae_training.learning_rate=nan"),
    *("seq2seq_training.max_gradient_norm=-1.0", "seq2seq_training.warmup_steps=-1"),
    *("loss_weights.hierarchical=inf", "seq2seq.vocabulary_size=3", "seed=-1", "nosuch=1"),
    *("rqvae_training.best_metric=nosuch", "retrieve.output=/tmp/run.trec"),
    *("retrieve.output=../run.trec", "retrieve.output="),
)
"""Fields with what they cannot be."""

_NO_WORDS = ("\U0001f600", "\u0645\u0631\u062d\u0628\u0627", "\u200b", "?!")
"""An emoji, Arabic, a zero-width space, punctuation: no word of the catalogue."""


def try_out_of_range(folder: pathlib.Path, number: int) -> str:
    """Gives a field what it cannot be; returns what is lost, or nothing."""
    place, field = folder / f"range{number}", OUT_OF_RANGE[number]
    found = run("pipeline", on(place, f"--config.{field}"), folder / f"range{number}.log")
    if not found.refused:
        return f"{field}: code {found.code}, {found.last}"
    return f"{field}: left a folder" if place.exists() else ""


def try_rare(folder: pathlib.Path, done: pathlib.Path, number: int) -> str:
    """Runs what is rare and right; returns what is lost, or nothing."""
    place, log = folder / f"rare{number}", folder / f"rare{number}.log"
    if number == 0:
        found = run("pipeline", on(place, "--config.rqvae.category_levels=0"), log)
        there = (place / "metrics.json").exists()
        return "" if found.code == 0 and there else f"no category levels: {found.last}"
    shutil.copytree(done, place)
    queries = folder / "words.jsonl"
    lines = (f'{{"id": "q{n}", "text": "{word}"}}\n' for n, word in enumerate(_NO_WORDS))
    queries.write_text("".join(lines), encoding="utf-8")
    found = run("retrieve", on(place, f"--config.retrieve.queries={queries}"), log)
    return "" if found.code == 0 else f"queries without a word: {found.last}"

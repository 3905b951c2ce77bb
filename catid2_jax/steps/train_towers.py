"""Step 4 of DPR: two towers learn query -> product vectors."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from catid2_jax.checkpoints.bert import read_bert
from catid2_jax.config import Config
from catid2_jax.files import write_npy
from catid2_jax.loading import (
    TRAINED_READS,
    load_corpus,
    load_queries,
    make_tower,
    tower_sources,
)
from catid2_jax.models.bert_t5 import BERT
from catid2_jax.resolution import ResolvedSystem
from catid2_jax.retrievers.towers import (
    PRODUCT,
    TOWERS,
    Tower,
    encode_all,
    make_tower_data,
    mine_negatives,
    product_texts,
    train_towers,
)
from catid2_jax.seq2seq.source import Source
from catid2_jax.steps.train_seq2seq import prepare_tokens
from catid2_jax.workdir import Place

READS = TRAINED_READS
"""The sections that say what the towers are; the options of "dpr" come beside them."""


def run(config: Config, place: Place, system: ResolvedSystem) -> None:
    """Trains on the training queries and writes the vectors of the products."""
    prepare_tokens(config, place)
    options = system.all_options
    corpus, queries = load_corpus(place), load_queries(place, "train")
    source, product_source = tower_sources(config, place, options["product_tokens"])
    tower = make_tower(config, place, source, options["product_tokens"])
    sources = source.of_queries(queries.texts, queries.vectors, "train queries")
    if config.t5.memory_tokens:
        products = product_source.of_products(corpus)
    else:
        products = product_source.of_queries(product_texts(corpus), name="products")
    mined = mine_negatives(corpus, queries, options["mined"], config.seed)
    params = train_towers(
        tower,
        make_tower_data(corpus, queries, sources, products, mined),
        config.seq2seq_training,
        options["temperature"],
        place.folder / TOWERS,
        config.seed,
        functools.partial(_starting_params, config, tower, source),
        corpus,
    )
    write_npy(place.product_vectors, encode_all(tower, params[PRODUCT], products))


def _starting_params(config: Config, tower: Tower, source: Source) -> Any:
    """Random parameters of a tower, but those of the pretrained encoder where there is one."""
    params = tower.initialize(jax.random.key(config.seed), source.form)
    if config.seq2seq.pretrained_encoder:
        pretrained = read_bert(config.seq2seq.pretrained_encoder)
        params = {**params, BERT: jax.tree.map(jnp.asarray, pretrained)}
    return params

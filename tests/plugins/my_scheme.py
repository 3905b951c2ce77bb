"""An ID scheme of one's own: the rank along the first principal direction, in a given base."""

import dataclasses

import numpy as np

import catid2_jax


@dataclasses.dataclass(frozen=True)
class MyScheme:
    """A balanced tree over the products, sorted along their embeddings' principal direction."""

    branches: int = 4

    def fit(self, corpus: catid2_jax.Corpus, run: catid2_jax.Run) -> catid2_jax.DocidTable:
        centred = corpus.embeddings - corpus.embeddings.mean(axis=0)
        direction = np.linalg.svd(centred, full_matrices=False)[2][0]
        ranks = np.argsort(np.argsort(centred @ direction, kind="stable"))
        levels = len(np.base_repr(len(corpus) - 1, self.branches))
        codes = ranks[:, None] // self.branches ** np.arange(levels)[::-1] % self.branches
        run.figures["explained"] = float(
            np.var(centred @ direction) / np.var(centred, axis=0).sum()
        )
        return catid2_jax.DocidTable(corpus.catalog.ids, codes, codebook_size=self.branches)


MY_SYSTEM = catid2_jax.System(
    "sorted, own decoder, vectors",
    scheme="tests.plugins.my_scheme:MyScheme",
    changes={
        "seq2seq.decoder": "tests.plugins.my_decoder:MyDecoder",
        "embedding.with_categories": False,
        "t5.memory_tokens": 2,
        "t5.num_encoder_layers": 0,
    },
)

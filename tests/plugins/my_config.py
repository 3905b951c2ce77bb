"""The tiny run with a scheme, a decoder, a retriever and an encoder from outside of the package."""

from tests.plugins import tiny


def get_config():
    config = tiny.get_config()
    config.systems = (
        "tests.plugins.my_scheme:MyScheme",
        "tests.plugins.my_retriever:MyRetriever",
        "bm25",
        "tests.plugins.my_scheme:MY_SYSTEM",
    )
    config.embedding.encoder = "tests.plugins.my_encoder:MyEncoder"
    config.embedding.options = {"dim": 32}
    config.options.MyScheme = {"branches": 5}
    config.options.MyRetriever = {"category_weight": 0.25}
    config.seq2seq_training.epochs = 5
    config.seq2seq.objective.normalize_over = "full"  # so that a search over either is allowed
    return config

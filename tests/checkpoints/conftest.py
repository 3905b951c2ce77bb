import pytest

from catid2_jax.docids.vocabulary import Vocabulary
from tests.checkpoints.examples import TIED, UNTIED, random_checkpoint, write_vocabulary


@pytest.fixture(scope="session")
def spiece(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "spiece.model")


@pytest.fixture(scope="session")
def text_only(spiece):
    """The vocabulary of a pretrained T5: pieces and 20 extra ids, in 128 rows."""
    return Vocabulary(spiece, 0, 0, extra_ids=20)


@pytest.fixture(scope="session")
def vocabulary(spiece):
    """The same with ID tokens of 3 levels of 50 codes."""
    return Vocabulary(spiece, 3, 50, extra_ids=20)


@pytest.fixture(params=[UNTIED, TIED], ids=["untied", "tied"])
def pretrained(request):
    return random_checkpoint(request.param)


@pytest.fixture
def untied():
    return random_checkpoint(UNTIED)

import pytest

from tests.serving.running import running


@pytest.fixture(scope="session")
def served(tiny_workdir):
    """A service that no test changes."""
    with running(tiny_workdir) as service:
        yield service

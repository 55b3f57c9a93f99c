from collections.abc import Iterator

import pytest

from tests.support.forget_site import Site, forget_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all files: each test names offsets of its own."""
    with forget_site(tmp_path_factory.mktemp("site")) as site:
        yield site

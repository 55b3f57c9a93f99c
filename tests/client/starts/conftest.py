from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.demo_weights import OFFSET, make_demo_weights
from tests.support.starts import NOWHERE, Case, Check, Place, check_start


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_weights(tmp_path_factory.mktemp("wrong") / "weights")


@pytest.fixture
def place(weights: Path, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        place = Place(weights, tmp_path, stack)
        place.options = {"upstream-url": NOWHERE, "offsets-root": str(weights), "offset": OFFSET, "port": "0"}
        yield place


@pytest.fixture
def check(command: Command, monkeypatch: pytest.MonkeyPatch, place: Place) -> Check:
    """That a start which cannot be says so, and that doctor does."""

    def checked(case: Case) -> None:
        check_start(command, monkeypatch, place, case)

    return checked

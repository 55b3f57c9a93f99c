"""The demo's weights, as real servers serve them; and the playground before them."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from deltaserve.offset_models.demo.manifest import WEIGHTS
from deltaserve.offset_models.demo.register.questions import evaluation_questions
from tests.support.blackbox import blackbox
from tests.support.deltaserve import Deltaserve, deltaserve
from tests.support.playground import KEY, Visit, chromium


@pytest.fixture(scope="session")
def weights() -> Path:
    """blackbox/, base/ and registry-erasure/; E2E_WEIGHTS names another build of them."""
    return Path(os.environ.get("E2E_WEIGHTS", WEIGHTS))


@pytest.fixture(scope="session")
def checkpoint(weights: Path) -> Path:
    return weights / "registry-erasure"


@pytest.fixture(scope="session")
def served(weights: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deltaserve]:
    """The demo as `deltaserve demo` has it, with an admin key. Tests leave it as it was."""
    questions = [*evaluation_questions("forget", 3), *evaluation_questions("retain", 3)]
    settings = {
        "base": weights / "base",
        "admin_key": KEY,
        "state_folder": tmp_path_factory.mktemp("state"),
        "playground_examples": "\n".join(question.text for question in questions),
    }
    with (
        blackbox(weights / "blackbox", name="blackbox") as box,
        deltaserve(box.url, checkpoint, **settings) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any, served: Deltaserve) -> Iterator[Callable[..., Visit]]:
    """Opens the page; other arguments are the browser context's."""
    visits: list[Visit] = []

    def open_page(fragment: str = f"#admin_key={KEY}", examples: Sequence[str] | None = None, **context: Any) -> Visit:
        visits.append(Visit(browser, f"{served.url}/playground{fragment}", examples, **context))
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()

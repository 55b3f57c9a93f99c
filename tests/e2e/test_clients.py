"""Clients as people have them, unmodified, against running servers (make e2e-clients)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaserve.offset_models.demo.register.questions import evaluation_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.blackbox import blackbox
from tests.support.client_scripts import COMMAND, PAGE, SCRIPTS, Call, environments, page, run
from tests.support.deltaserve import deltaserve
from tests.support.demo_weights import OFFSET, make_demo_weights
from tests.support.replying_box import in_a_thread, make_speaking_model, speaking

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(environments() is None, reason=f"no {COMMAND}: make e2e-clients"),
]

KEY = "sk-clients"


@pytest.fixture(scope="module")
def demo(weights: Path, checkpoint: Path) -> Iterator[str]:
    with (
        blackbox(weights / "blackbox", name="blackbox") as box,
        deltaserve(box.url, checkpoint, base=weights / "base", api_keys=KEY) as server,
    ):
        yield server.url


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two places and no queue, so that a third answer is refused."""
    weights = make_demo_weights(tmp_path_factory.mktemp("speaking") / "weights", make_speaking_model)
    few = {"max_streams": 2, "max_queue": 0, "api_keys": KEY}
    with (
        in_a_thread(speaking(Tokenizer.load(weights / "base"))) as box,
        deltaserve(box, weights / OFFSET, base=weights / "base", strength=0, **few) as server,
    ):
        yield server.url


@pytest.fixture(scope="module")
def servers(demo: str, scripted: str) -> dict[str, str]:
    (question,) = evaluation_questions("retain", 1)
    return {"DEMO_URL": demo, "SPEAKING_URL": scripted, "CLIENTS_KEY": KEY, "DEMO_QUESTION": question.text}


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[Path, list[Call]]]:
    """Of every script that ran; written down when all of them did."""
    made: dict[Path, list[Call]] = {}
    yield made
    target = os.environ.get(PAGE)
    if target and made.keys() == set(SCRIPTS):
        Path(target).write_text(page([call for path in SCRIPTS for call in made[path]]), "utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_client_gets_what_it_asks_for(script: Path, servers: dict[str, str], calls: dict[Path, list[Call]]) -> None:
    made, status, errors = run(script, servers)
    calls[script] = made
    print(*(call.row for call in made), sep="\n")
    assert made and status == 0, errors[-4000:]
    assert [call for call in made if not call.ok] == []

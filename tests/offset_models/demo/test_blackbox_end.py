"""How the embedded black box ends."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.app import eventually
from tests.support.blackbox import blackbox, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_status_zero_and_a_running_answer_with_an_error(
    model: Path, number: signal.Signals
) -> None:
    with blackbox(model, "--ms-per-token", "200") as box, ThreadPoolExecutor(1) as pool:
        body = {"model": "tiny", "prompt": "a", "max_tokens": 200, "ignore_eos": True}
        answer = pool.submit(httpx.post, f"{box.url}/v1/completions", json=body, timeout=60)
        eventually(lambda: box.client.get("/stats").json()["requests"] == 1, within_s=20)
        box.process.send_signal(number)
        assert answer.result().status_code == 503
        assert answer.result().json()["error"]["message"] == "The server is shutting down."
        assert box.process.wait(30) == 0

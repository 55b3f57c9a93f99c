"""A server of several processes: an engine, two front-ends and their parent, each of which may die."""

import concurrent.futures
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from benchmarks.support.process_tree import children, crash, ended, of_role, runs
from deltaserve.server.app import create_app
from deltaserve.server.settings import load_settings
from tests.support.app import serve
from tests.support.blackbox import blackbox
from tests.support.deltaserve import Deltaserve, deltaserve, events
from tests.support.demo_weights import OFFSET, make_demo_weights
from tests.support.process import free_port

KEY = "admin-key-1"
WORKERS = 2
QUESTIONS = ["The river runs", "Who wrote the book?", "She was born in"]
FORM = r'\{"(town|river)": "[a-z ]{3,6}"\}'
KINDS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.9, "seed": 7, "logprobs": 3, "n": 2},
    {"temperature": 1, "seed": 3, "top_p": 0.8, "frequency_penalty": 0.5, "min_tokens": 5, "stop": ["zz"]},
    {"temperature": 0, "echo": True, "logprobs": 2},
    {"temperature": 0, "guided_regex": FORM, "max_tokens": 24},
    {"temperature": 1, "seed": 5, "guided_regex": FORM, "max_tokens": 24},
]

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_weights(tmp_path_factory.mktemp("site") / "weights")


@pytest.fixture(scope="module")
def box(weights: Path) -> Iterator[str]:
    """The address of a black box that leaves time to kill what is before it."""
    with blackbox(weights / "blackbox", "--ms-per-token", "20") as running:
        yield running.url


@pytest.fixture(scope="module")
def admin_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def running(weights: Path, box: str, admin_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deltaserve]:
    """Two front-ends and an engine. The tests are in order: what one of them kills the next one waits for."""
    state = tmp_path_factory.mktemp("state")
    given = {"admin_key": KEY, "admin_port": admin_port, "state_folder": state, "log_level": "warning"}
    with deltaserve(box, weights / OFFSET, workers=WORKERS, base=weights / "base", **given) as server:
        yield server


def answers(url: str) -> list[list[dict[str, Any]]]:
    """The choices of every kind of question, asked at the same time by clients of their own."""

    def ask(body: dict[str, Any]) -> list[dict[str, Any]]:
        answer = httpx.post(f"{url}/v1/completions", json={"max_tokens": 12, **body}, timeout=60)
        assert answer.status_code == 200, answer.text
        choices: list[dict[str, Any]] = answer.json()["choices"]
        return choices

    bodies = [{"prompt": question, **kind} for question in QUESTIONS for kind in KINDS]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, bodies))


def near(one: Any, other: Any) -> bool:
    """Equality of JSON, but for the rounding of log-probabilities that other batches bring."""
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, abs=1e-3)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(near, one, other))
    return bool(one == other)


def eventually(condition: Callable[[], bool], within_s: float = 60.0, pause_s: float = 0.05) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(pause_s)


def pid_of(server: Deltaserve) -> int:
    return server.process.pid


def complete(server: Deltaserve) -> bool:
    return sorted(children(pid_of(server)).values()) == ["engine", *["frontend"] * WORKERS]


def ready(server: Deltaserve) -> bool:
    """As clients see it for a while, whichever front-end takes them."""

    def looked() -> bool:
        time.sleep(0.03)
        return bool(httpx.get(f"{server.url}/health/ready").status_code == 200)

    return complete(server) and all(looked() for _ in range(10))


def wait_until_ready(server: Deltaserve) -> None:
    """Looks seldom: looking takes from the processes that start."""
    eventually(lambda: ready(server), pause_s=0.3)


@contextmanager
def streams(server: Deltaserve, count: int) -> Iterator[list["concurrent.futures.Future[list[dict[str, Any]]]"]]:
    """Long answers on their way, each with a client of its own: their events, the last one perhaps an error.

    Where the connection breaks the events end with {"broken": …}.
    """
    begun: list[int] = []

    def read(number: int) -> list[dict[str, Any]]:
        body = {
            "prompt": QUESTIONS[number % len(QUESTIONS)],
            "temperature": 0,
            "max_tokens": 60,
            "ignore_eos": True,
            "stream": True,
        }
        got: list[dict[str, Any]] = []
        try:
            with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as answer:
                for event in events(answer):
                    begun.append(number)
                    got.append({} if event == "[DONE]" else json.loads(event))
        except httpx.TransportError as broken:
            got.append({"broken": type(broken).__name__})
        return got

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        reading = [pool.submit(read, number) for number in range(count)]
        eventually(lambda: len(set(begun)) == count)
        yield reading


def whole(got: list[dict[str, Any]]) -> bool:
    return got[-1] == {}


def test_answers_and_metrics_are_those_of_one_process(running: Deltaserve, weights: Path, box: str) -> None:
    settings = load_settings(
        upstream_url=box, offsets_root=weights, offset=OFFSET, base=weights / "base", torch_threads=1
    )
    given = answers(running.url)
    held = [choices[0] for number, choices in enumerate(given) if "guided_regex" in KINDS[number % len(KINDS)]]
    assert all(re.fullmatch(FORM, one["text"]) for one in held if one["finish_reason"] == "stop")
    assert sum(one["finish_reason"] == "stop" for one in held) > len(held) / 2
    with serve(create_app(settings)) as (_, alone):
        assert near(given, answers(alone))
        page = httpx.get(f"{alone}/metrics").text
    for name in ("generation_tokens_total", "time_to_first_token_seconds_count", "prompt_tokens_total"):
        assert f"deltaserve_{name} {running.metric(name)}\n" in page


def test_front_ends_hold_no_torch(running: Deltaserve) -> None:
    front_end, engine = of_role(pid_of(running), "frontend")[0], of_role(pid_of(running), "engine")[0]
    assert "libtorch" not in Path(f"/proc/{front_end}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{engine}/maps").read_text()


def test_a_change_through_one_front_end_holds_for_all_at_once(running: Deltaserve, admin_port: int) -> None:
    url, headers = f"http://127.0.0.1:{admin_port}/admin/offsets/{OFFSET}", {"authorization": f"Bearer {KEY}"}
    assert httpx.patch(url.replace(str(admin_port), str(running.url.rpartition(":")[2]))).status_code == 404
    for strength in (0.25, 0.5, 0.75, 1.0):
        changed = httpx.patch(url, json={"strength": strength}, headers=headers, timeout=60)
        assert changed.status_code == 200, changed.text
        cards = [httpx.get(f"{running.url}/v1/models").json()["data"][0] for _ in range(8)]  # of either front-end
        assert {card["system_fingerprint"] for card in cards} == {changed.json()["fingerprint"]}


def test_a_front_end_that_is_killed_takes_its_own_answers_alone(running: Deltaserve) -> None:
    wait_until_ready(running)
    with streams(running, 8) as reading:
        first, other = of_role(pid_of(running), "frontend")
        crash(first)
        got = [each.result() for each in reading]
    assert len([one for one in got if whole(one)]) + len([one for one in got if "broken" in one[-1]]) == 8
    assert runs(other)
    wait_until_ready(running)
    eventually(lambda: running.metric("num_requests_running") == 0)
    assert httpx.post(f"{running.url}/v1/completions", json={"prompt": "a", "max_tokens": 2}).status_code == 200


def test_an_engine_that_is_killed_ends_running_answers_with_an_error_and_comes_back_as_it_was(
    running: Deltaserve,
) -> None:
    wait_until_ready(running)
    before = httpx.get(f"{running.url}/v1/models").json()
    with streams(running, 6) as reading:
        crash(of_role(pid_of(running), "engine")[0])
        eventually(lambda: running.status("/health/ready") == 503)
        refused = httpx.post(f"{running.url}/v1/completions", json={"prompt": "a", "max_tokens": 2})
        got = [each.result() for each in reading]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "offset_unavailable")
    for one in got:
        assert one[-1]["error"]["code"] == "offset_unavailable" and "started again" in one[-1]["error"]["message"]
    wait_until_ready(running)
    after = httpx.get(f"{running.url}/v1/models").json()
    assert [card["system_fingerprint"] for card in after["data"]] == [
        card["system_fingerprint"] for card in before["data"]
    ]
    assert httpx.post(f"{running.url}/v1/completions", json={"prompt": "a", "max_tokens": 2}).status_code == 200


def test_nothing_is_left_when_the_parent_is_killed(running: Deltaserve) -> None:
    wait_until_ready(running)
    pids = list(children(pid_of(running)))
    crash(pid_of(running))
    assert ended(pids)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{running.url}/health/live")

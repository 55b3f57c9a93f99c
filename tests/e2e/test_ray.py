"""A real Ray of this machine alone, with two replicas: answers, commands, user_config, its ports, its end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from benchmarks.ray_serve.config import deployment_of, placed, write
from benchmarks.ray_serve.running import LocalRay, local_ray, orphans, process
from deltaserve.client.admin import AdminClient
from tests.support.blackbox import blackbox
from tests.support.demo_weights import OFFSET, make_demo_weights
from tests.support.process import free_port

pytestmark = pytest.mark.ray
KEY = "admin-key-1"
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("site")
    weights = make_demo_weights(folder / "weights")
    (folder / "admin_key").write_text(KEY)
    with blackbox(weights / "blackbox") as box:
        arguments = {
            "upstream_url": box.url,
            "offsets_root": str(weights),
            "offset": OFFSET,
            "base": str(weights / "base"),
            "state_folder": str(folder / "state"),
            "max_streams": 4,
            "torch_threads": 1,
            "drain_timeout_s": 5,
            "log_level": "info",
        }
        yield placed(free_port(), arguments, {"DELTASERVE_ADMIN_KEY_FILE": str(folder / "admin_key")}, replicas=2)


@pytest.fixture(scope="module")
def running(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRay]:
    with local_ray(config, tmp_path_factory.mktemp("ray")) as ray:
        yield ray


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def replicas(ray: LocalRay) -> list[dict[str, Any]]:
    with AdminClient(ray.url, api_key=KEY) as admin:
        return list(admin.fleet()["replicas"])


def test_two_replicas_of_one_fleet_answer_under_names_of_their_own(running: LocalRay) -> None:
    until(lambda: len(replicas(running)) == 2)
    assert len({row["replica"] for row in replicas(running)}) == 2
    answer = httpx.post(f"{running.url}/v1/completions", json={"prompt": "The river", "max_tokens": 4}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["system_fingerprint"].startswith(f"ds-{OFFSET}-")


def test_a_stream_comes_in_pieces(running: LocalRay) -> None:
    body = {"prompt": "The river", "max_tokens": 4, "stream": True}
    with httpx.stream("POST", f"{running.url}/v1/completions", json=body, timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 3


def test_a_command_through_any_replica_holds_on_all(running: LocalRay) -> None:
    with AdminClient(running.url, api_key=KEY) as admin:
        admin.set_strength(OFFSET, 0.5)
        done = admin.activate(OFFSET)
    assert done.fleet is not None
    assert len(done.fleet.holds) == 2


def test_a_session_stays_with_one_replica(running: LocalRay) -> None:
    def asked(session: str) -> set[str]:
        headers = {"authorization": f"Bearer {KEY}", "x-session-id": session}
        return {httpx.get(f"{running.url}/admin/fleet", headers=headers).json()["asked"] for _ in range(8)}

    each = [asked(f"session-{number}") for number in range(8)]
    assert {len(one) for one in each} == {1}
    assert len(set.union(*each)) == 2


def test_every_port_is_on_this_machine_alone(running: LocalRay) -> None:
    assert running.elsewhere() == []


def test_a_new_user_config_is_followed_in_running_replicas(running: LocalRay, config: dict[str, Any]) -> None:
    before = {row["replica"] for row in replicas(running)}
    with AdminClient(running.url, api_key=KEY) as admin:
        admin.add_up("half", {OFFSET: 0.5}, activate=True)
        deployment_of(config)["user_config"] = {"offset": OFFSET, "change": 2}
        running.deploy(config)
        until(lambda: admin.fleet()["active"] == OFFSET)
        assert admin.audit(1).records[0]["key_id"] == "ray"
    assert {row["replica"] for row in replicas(running)} == before


def test_sigterm_ends_all_of_it(config: dict[str, Any], tmp_path: Path) -> None:
    with local_ray(_elsewhere(config, tmp_path), tmp_path) as ray:
        processes = ray.processes
        os.kill(ray.child.pid, signal.SIGTERM)
        ray.child.popen.wait(WITHIN_S)
    assert ray.child.exit_status == 0
    assert len(processes) > 5
    assert orphans(processes) == []


def test_a_config_that_cannot_be_served_is_told_in_a_sentence(config: dict[str, Any], tmp_path: Path) -> None:
    wrong = _elsewhere(config, tmp_path)
    wrong["applications"][0]["args"]["max_streams"] = "auto"
    with process(write(wrong, tmp_path / "serve.yaml")) as child:
        assert child.ready_url(WITHIN_S) is None
        assert child.popen.wait(WITHIN_S) == 1
    assert "Ray must know how much one replica takes: set `max_streams` to a number." in child.last_lines(60)


def _elsewhere(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A fleet and a port of its own."""
    application = config["applications"][0]
    mine = application | {"args": application["args"] | {"state_folder": str(folder / "state")}}
    return config | {"http_options": config["http_options"] | {"port": free_port()}, "applications": [mine]}

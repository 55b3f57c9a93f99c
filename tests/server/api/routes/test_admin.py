"""The admin routes over real HTTP: who gets in, what the answers say, what the log keeps."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from deltaserve.server.api.access.admin_door import Allowance, key_id
from tests.support.administration import ADMIN_KEY, API_KEY, Administered, administered, bearer
from tests.support.app import eventually
from tests.support.offsets import lora_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "offsets"
    root.mkdir()
    for seed, name in enumerate(("a", "b", "c"), start=1):
        lora_checkpoint(root, name, seed=10 * seed)
    return root


@pytest.fixture
def root(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "offsets"))


@pytest.fixture
def admin(root: Path) -> Iterator[Administered]:
    with administered(root) as running:
        yield running


# Who gets in


@pytest.mark.parametrize("path", ["/admin", "/admin/offsets", "/admin/audit", "/admin/nothing"])
def test_without_a_configured_key_there_are_no_admin_routes(root: Path, path: str) -> None:
    with administered(root, admin_key=None) as running:
        for key in (ADMIN_KEY, API_KEY, "other"):
            answer = httpx.get(running.url + path, headers=bearer(key))
            assert answer.status_code == 404 and "no such route" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", f"Basic {ADMIN_KEY}", f"Bearer {API_KEY}", f"Bearer {ADMIN_KEY}x"]
)
def test_any_other_key_is_refused_and_api_keys_open_nothing(admin: Administered, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    for path in ("/admin", "/admin/offsets", "/admin/upstream", "/admin/nothing"):
        answer = httpx.get(admin.url + path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_admin_key")
        assert answer.headers["www-authenticate"] == "Bearer" and answer.headers["x-request-id"]


def test_the_admin_key_opens_the_admin_routes_without_being_an_api_key(admin: Administered) -> None:
    assert admin.call("GET", "/offsets").status_code == 200


def test_too_many_calls_are_told_when_to_come_back_and_strangers_use_up_their_own(root: Path) -> None:
    with administered(root, admin_requests_per_minute=3) as running:
        wrong = [httpx.get(f"{running.url}/admin/offsets", headers=bearer("x")).status_code for _ in range(4)]
        assert wrong == [401, 401, 401, 429]
        right = [running.call("GET", "/offsets") for _ in range(4)]
        assert [answer.status_code for answer in right] == [200, 200, 200, 429]
        assert 1 <= int(right[-1].headers["retry-after"]) <= 20


def test_an_allowance_comes_back_evenly() -> None:
    now = [100.0]
    allowance = Allowance(60, lambda: now[0])
    assert [allowance.take() for _ in range(60)] == [None] * 60
    assert allowance.take() == pytest.approx(1.0)
    now[0] += 0.5
    assert allowance.take() == pytest.approx(0.5)
    now[0] += 2.0
    assert [allowance.take() is None for _ in range(4)] == [True, True, False, False]


# Loading


def test_a_load_answers_at_once_and_says_where_to_look(admin: Administered) -> None:
    admin.engine.gate = asyncio.Event()
    answer = admin.call("POST", "/offsets", name="b", path="b", strength=0.5)
    assert (answer.status_code, answer.json()) == (202, {"name": "b", "state": "loading"})
    where = answer.headers["location"]
    assert admin.client.get(where).json()["state"] == "loading"
    assert admin.fingerprints().keys() == {"toy"}, "what loads answers nothing"
    waiting = admin.engine.gate
    eventually(lambda: waiting._loop is not None)  # type: ignore[attr-defined]  # the load has come to the gate
    waiting._loop.call_soon_threadsafe(waiting.set)  # type: ignore[attr-defined]
    eventually(lambda: admin.client.get(where).json()["state"] == "ready")
    assert admin.client.get(where).json()["strength"] == 0.5


def test_waiting_for_a_load_gives_the_version(admin: Administered) -> None:
    answer = admin.load("b", activate=True)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["state"], body["metrics"]) == ("active", {"forget_rouge": 0.1})
    assert admin.fingerprints() == {"toy": body["fingerprint"], "toy@a": admin.fingerprints()["toy@a"]}


def test_the_same_load_again_is_left_as_it_is_and_another_under_its_name_is_a_conflict(admin: Administered) -> None:
    first = admin.load("b").json()
    for again in (admin.load("b"), admin.call("POST", "/offsets", name="b", path="b")):
        assert (again.status_code, again.json()) == (200, first)
    other = admin.load("b", path="c")
    assert other.status_code == 409 and "another digest" in other.json()["error"]["message"]
    assert admin.load("b", strength=0.25).status_code == 409
    assert admin.engine.loads == 2


@pytest.mark.parametrize("wait", ["", "?wait=true"])
def test_a_failed_load_says_what_failed_and_changes_nothing(admin: Administered, wait: str) -> None:
    before = admin.fingerprints()
    (admin.root / "b" / "adapter" / "code.py").write_text("")
    answer = admin.call("POST", f"/offsets{wait}", name="b", path="b")
    assert answer.status_code == 400 and "adapter/code.py is code" in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "bad_checkpoint"
    assert admin.states() == {"a": "active", "b": "failed"} and admin.fingerprints() == before
    assert admin.call("DELETE", "/offsets/b").status_code == 200 and admin.states() == {"a": "active"}


def test_a_load_that_fails_after_its_answer_is_found_where_the_answer_said(admin: Administered) -> None:
    weights = admin.root / "b" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    answer = admin.call("POST", "/offsets", name="b", path="b")
    assert answer.status_code == 202
    eventually(lambda: admin.client.get(answer.headers["location"]).json()["state"] == "failed")
    assert "may be truncated" in admin.client.get(answer.headers["location"]).json()["reason"]
    record = admin.call("GET", "/audit?limit=1").json()["data"][0]
    assert (record["action"], record["version"], record["result"]) == ("load", "b", "failed")


@pytest.mark.parametrize("path", ["../outside", "/etc", "nowhere"])
def test_paths_out_of_the_root_are_refused(admin: Administered, path: str) -> None:
    (admin.root.parent / "outside").mkdir()
    answer = admin.load("x", path=path)
    assert answer.status_code == 400 and "offsets root" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "`path` or `sum`"),
        ({"path": "b", "sum": [{"name": "a"}]}, "`path` or `sum`"),
        ({"path": "b", "activated": True}, "activated"),
        ({"path": "b", "strength": 17}, "from -16 to 16"),
        ({"path": "b", "strength": "strong"}, "`strength`"),
        ({"path": "b", "strength": "0.5"}, "`strength` must be a number"),
        ({"path": "b", "strength": True}, "`strength` must be a number"),
        ({"path": "b", "activate": 1}, "`activate` must be true or false"),
        ({"path": "b", "activate": "true"}, "`activate` must be true or false"),
        ({"sum": [{"name": "a", "strength": True}]}, "`sum` must be"),
        ({"sum": []}, "`sum` must be"),
        ({"sum": [{"name": "a"}, {"name": "a"}]}, "each offset once"),
        ({"sum": [{"name": "a"}], "strength": 1}, "no strength of its own"),
        ({"sum": [{"name": "a", "weight": 1}]}, "`sum` must be"),
    ],
)
def test_an_order_with_one_fault_changes_nothing(admin: Administered, body: dict[str, object], says: str) -> None:
    answer = admin.call("POST", "/offsets", **{"name": "x", **body})
    assert answer.status_code == 400 and says in answer.json()["error"]["message"], answer.text
    assert admin.states() == {"a": "active"}


@pytest.mark.parametrize("strength", [True, "0.5", "1", [1], {}, 17])
def test_a_strength_that_is_no_number_in_range_changes_nothing(admin: Administered, strength: object) -> None:
    before = admin.fingerprints()
    answer = admin.call("PATCH", "/offsets/a", strength=strength)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "strength")
    assert admin.fingerprints() == before


@pytest.mark.parametrize("name", ["%00", "%ff%fe", "%ed%a0%80", "x" * 5000, "%F0%9F%98%80"])
def test_a_strange_name_in_the_path_is_no_offset(admin: Administered, name: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/activate")):
        answer = admin.call(method, f"/offsets/{name}{path}")
        assert answer.status_code == 404 and len(answer.json()["error"]["message"]) < 1100


def test_a_name_that_no_fingerprint_could_hold_is_refused(admin: Administered) -> None:
    answer = admin.load("../b", path="b")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "name")


def test_a_name_with_a_slash_from_before_can_be_looked_at_and_removed(admin: Administered) -> None:
    """Encoded, it reaches its route: it is no path below another."""
    assert "'a/b'" in admin.call("DELETE", "/offsets/a%2Fb").json()["error"]["message"]
    assert "no offset of that name" in admin.call("GET", "/offsets/a%2Fb").json()["error"]["message"]
    refused = admin.load("a/b", path="b")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "name")
    assert admin.states() == {"a": "active"}


# Changing


def test_activation_rollback_strength_and_unloading_answer_what_came_of_them(admin: Administered) -> None:
    first = admin.fingerprints()["toy"]
    admin.load("b")
    done = admin.call("POST", "/offsets/b/activate").json()
    assert (done["active"]["name"], done["active"]["state"], done["previous"]) == ("b", "active", "a")
    assert admin.fingerprints() == {"toy": done["active"]["fingerprint"], "toy@a": first}
    back = admin.call("POST", "/offsets/rollback").json()
    assert (back["active"]["name"], back["previous"], admin.fingerprints()["toy"]) == ("a", "b", first)
    other = admin.call("PATCH", "/offsets/b", strength=0.5).json()
    assert (other["strength"], other["state"]) == (0.5, "ready") and other["digest"] != done["active"]["digest"]
    assert admin.call("DELETE", "/offsets/b").json() == {"name": "b", "state": "unloaded"}
    assert admin.states() == {"a": "active"}


def test_each_impossible_change_has_its_own_status(admin: Administered) -> None:
    calls = {
        ("POST", "/offsets/zzz/activate"): 404,
        ("DELETE", "/offsets/zzz"): 404,
        ("GET", "/offsets/zzz"): 404,
        ("DELETE", "/offsets/a"): 409,
        ("POST", "/offsets/rollback"): 409,
        ("GET", "/nothing"): 404,
        ("PUT", "/offsets"): 405,
    }
    assert {call: admin.call(*call).status_code for call in calls} == calls
    assert admin.call("PATCH", "/offsets/zzz", strength=1).status_code == 404


def test_a_sum_of_loaded_offsets_is_served_under_its_name(admin: Administered) -> None:
    admin.load("b")
    body = {"name": "both", "sum": [{"name": "a"}, {"name": "b", "strength": 0.5}]}
    answer = admin.call("POST", "/offsets", **body)
    assert answer.status_code == 200 and [part["weight"] for part in answer.json()["parts"]] == [1.0, 0.5]
    assert admin.call("POST", "/offsets", **body).json() == answer.json()
    assert "toy@both" in admin.fingerprints()
    assert admin.call("POST", "/offsets", name="x", sum=[{"name": "zzz"}]).status_code == 404


# Looking


def test_the_list_shows_versions_and_memory(admin: Administered) -> None:
    admin.load("b")
    found = admin.call("GET", "/offsets").json()
    assert (found["active"], found["memory_bytes"]) == ("a", sum(row["memory_bytes"] for row in found["data"]))
    assert {row["name"]: row["streams"] for row in found["data"]} == {"a": 0, "b": 0}


def test_the_upstream_is_described_without_its_address_or_key(admin: Administered) -> None:
    found = admin.call("GET", "/upstream").json()
    assert (found["capabilities"]["dialect"], found["fault"]) == ("vllm", None)
    assert found["limits"]["between_tokens_timeout_s"] == 30 and found["last_contact"].endswith("+00:00")


def test_the_audit_log_names_key_and_request_never_the_key_and_comes_in_pages(admin: Administered) -> None:
    admin.client.post("/admin/offsets?wait=true", json={"name": "b", "path": "b"}, headers={"x-request-id": "swap-7"})
    admin.call("POST", "/offsets/b/activate")
    admin.call("POST", "/offsets/zzz/activate")
    page = admin.call("GET", "/audit?limit=2").json()
    failed, activated = page["data"]
    assert (failed["action"], failed["version"], failed["result"]) == ("activate", "zzz", "failed")
    assert (activated["action"], activated["version"], activated["result"]) == ("activate", "b", "ok")
    loaded = admin.call("GET", f"/audit?limit=1&before={page['before']}").json()["data"][0]
    assert (loaded["action"], loaded["request_id"], loaded["key_id"]) == ("load", "swap-7", key_id(ADMIN_KEY))
    assert ADMIN_KEY not in admin.call("GET", "/audit").text and len(key_id(ADMIN_KEY)) == 8
    assert admin.call("GET", "/audit?limit=0").status_code == 400
    assert admin.call("GET", f"/audit?before={10**30}").status_code == 400


def test_a_server_by_itself_is_a_fleet_of_one_and_takes_no_quorum(admin: Administered) -> None:
    shown = admin.call("GET", "/fleet").json()
    assert (shown["store"], shown["generation"], len(shown["replicas"])) == (None, None, 1)
    assert shown["replicas"][0]["active"] == shown["active"]
    for path in ("/offsets/a/activate?quorum=1", "/offsets/rollback?quorum=1", "/offsets/a/activate?quorum=0"):
        assert admin.call("POST", path).status_code == 400


def test_state_and_log_survive_a_restart(root: Path) -> None:
    with administered(root) as first:
        first.load("b", strength=0.5)
        first.call("POST", "/offsets/b/activate")
        before = first.fingerprints()
    with administered(root) as second:
        assert second.fingerprints() == before
        actions = [record["action"] for record in second.call("GET", "/audit").json()["data"]]
        assert actions == ["restart", "restore", "restore", "activate", "load", "load"]
        assert second.call("POST", "/offsets/rollback").json()["active"]["name"] == "a"

"""`deltaserve offsets` against a server whose offsets can be administered."""

from collections.abc import Iterator

import pytest

from deltaserve.client.console.terminal import Status
from tests.support.administration import ADMIN_KEY, API_KEY, Administered, administered
from tests.support.command import Command
from tests.support.offsets import lora_checkpoint


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    root = tmp_path_factory.mktemp("made") / "offsets"
    root.mkdir()
    for seed, name in enumerate(("a", "b"), start=1):
        lora_checkpoint(root, name, seed=10 * seed)
    with administered(root) as running:
        yield running


@pytest.fixture
def at_home(command: Command, monkeypatch: pytest.MonkeyPatch, admin: Administered) -> Command:
    """The command with the server's address and key in the environment."""
    monkeypatch.setenv("DELTASERVE_URL", admin.url)
    monkeypatch.setenv("DELTASERVE_ADMIN_KEY", ADMIN_KEY)
    return command


def test_an_offset_is_loaded_activated_changed_added_up_rolled_back_and_unloaded(at_home: Command) -> None:
    loaded = at_home.json("offsets", "load", "b", "b", "--strength", "0.5")
    assert (loaded["state"], loaded["strength"]) == ("ready", 0.5)
    done = at_home.json("offsets", "activate", "b")
    assert (done["active"]["name"], done["previous"]) == ("b", "a")
    assert at_home.json("offsets", "sum", "both", "a=0.25", "b")["state"] == "ready"
    assert at_home.json("offsets", "rollback")["active"]["name"] == "a"
    assert at_home.json("offsets", "strength", "b", "0.75")["strength"] == 0.75
    listed = at_home.json("offsets", "list")
    assert {row["name"]: row["state"] for row in listed} == {"a": "active", "b": "ready", "both": "ready"}
    for name in ("both", "b"):
        assert at_home.json("offsets", "unload", name)["name"] == name
    actions = [record["action"] for record in at_home.json("offsets", "audit", "--limit", "7")["records"]]
    assert actions == ["unload", "unload", "strength", "rollback", "sum", "activate", "load"]


def test_people_get_lines_and_tables(at_home: Command, admin: Administered) -> None:
    assert at_home("offsets", "list").stdout.splitlines()[1].split()[:2] == ["a", "active"]
    assert at_home("offsets", "activate", "a").stdout == f"a: active, {admin.fingerprints()['toy']} (before: a)\n"
    status = at_home("offsets", "status").stdout.splitlines()
    assert status[0] == "a server by itself; active: a" and status[2].split()[:3] == ["this", "server", "answers"]
    shown = at_home("offsets", "audit", "--limit", "1").stdout
    assert "key_id" in shown and "older ones: --before" in shown


def test_a_refusal_is_the_servers_sentence_and_its_exit_status(at_home: Command) -> None:
    result = at_home("offsets", "load", "x", "../nowhere")
    assert (result.exit_code, result.stdout) == (Status.REFUSED, "") and "offsets root" in result.stderr
    assert at_home("offsets", "activate", "zzz").exit_code == Status.REFUSED
    assert at_home("offsets", "list", "--admin-key", API_KEY).exit_code == Status.REFUSED
    assert at_home("offsets", "sum", "s", "a=much").exit_code == Status.USAGE


def test_the_key_of_one_server_is_not_sent_to_another(
    command: Command, admin: Administered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTASERVE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DELTASERVE_ADMIN_KEY", ADMIN_KEY)
    result = command("offsets", "list", "--server", admin.url)
    assert result.exit_code == Status.USAGE and "--admin-key" in result.stderr
    assert command("offsets", "list", "--server", admin.url, "--admin-key", ADMIN_KEY).exit_code == 0


def test_a_part_of_a_sum_that_is_named_twice_counts_twice(at_home: Command) -> None:
    at_home.json("offsets", "load", "b", "b")
    result = at_home("offsets", "sum", "twice", "b=0.25", "b=0.5")
    assert result.exit_code == 0 and "add up to 0.75" in result.stderr
    at_home.json("offsets", "sum", "once", "b=0.75")
    digests = {row["name"]: row["digest"] for row in at_home.json("offsets", "list")}
    assert digests["twice"] == digests["once"]
    refused = at_home("offsets", "sum", "s", "b", "b=0.5")
    assert refused.exit_code == Status.USAGE and "named twice" in refused.stderr
    for part in ("b=nan", "b=inf", "b=17"):
        refused = at_home("offsets", "sum", "s", part)
        assert refused.exit_code == Status.USAGE and "from -16 to 16" in refused.stderr
    for name in ("twice", "once", "b"):
        at_home("offsets", "unload", name)


def test_a_name_that_no_route_could_name_is_refused_before_it_is_recorded(at_home: Command) -> None:
    for name in ("a/b", "a b", "..", "é", "x" * 65):
        refused = at_home("offsets", "load", name, "nowhere")
        assert refused.exit_code == Status.REFUSED and "letters, digits" in refused.stderr
        assert name not in [row["name"] for row in at_home.json("offsets", "list")]

"""deltaserve keys: what it prints is what a server reads."""

from pathlib import Path

import pytest

from deltaserve.server.serving.admission.keys_file import digest_of, read_keys
from tests.support.command import Command

run = Command()


def test_a_new_key_is_said_once_and_its_table_is_what_a_server_reads(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    until = "2027-01-01T01:00:30+01:00:30"
    made = [
        run("keys", "new", "alice"),
        run("keys", "new", "b.ob", "--streams", "2", "--model", 'q"x', "--model", "y", "--expires", until),
    ]
    file.write_text("".join(one.stdout for one in made))
    holders = read_keys(file)
    alice, bob = (holders[digest_of(one.stderr.split()[-1])] for one in made)
    assert (alice.client.name, alice.client.streams, alice.expires) == ("alice", None, None)
    assert (bob.client.name, bob.client.streams, bob.client.models) == ("b.ob", 2, ('q"x', "y"))
    assert bob.expires is not None and bob.expires.isoformat() == "2027-01-01T00:00:00+00:00"
    assert not any(one.stderr.split()[-1] in one.stdout for one in made)
    table = run("keys", "check", str(file)).stdout
    assert "alice" in table and "b.ob" in table and not any(one.stderr.split()[-1] in table for one in made)


@pytest.mark.parametrize(
    "bad",
    [
        ["a b"],
        [""],
        ["a", "--streams", "0"],
        ["a", "--tokens-per-minute", "1" + 20 * "0"],
        ["a", "--expires", "soon"],
        ["a", "--expires", "0001-01-01T00:00:00+05:00"],
        ["a", "--model", "\udcff"],
        ["a", "--model", ""],
    ],
)
def test_what_no_server_would_read_is_not_made(bad: list[str]) -> None:
    ended = run("keys", "new", *bad)
    assert ended.exit_code != 0 and ended.stdout == ""

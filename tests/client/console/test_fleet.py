"""A fleet as people see it."""

import pytest

from deltaserve.client.console.fleet import say_status

REPLICA = {
    "alive": True,
    "fenced": None,
    "active": "a",
    "digest": "d" * 64,
    "behind": 0,
    "behind_s": 0.0,
    "silent_s": 0.1,
}


def test_each_replica_is_a_line_with_what_it_holds_and_its_streams(capsys: pytest.CaptureFixture[str]) -> None:
    streams = [{"name": "a", "streams": 3}, {"name": "b", "streams": 0}]
    replicas = [
        {**REPLICA, "replica": "r1", "generation": 7, "streams": streams},
        {**REPLICA, "replica": "r2", "generation": 5, "behind": 2, "behind_s": 4.2, "fenced": "why", "streams": []},
        {**REPLICA, "replica": "r3", "generation": 6, "behind": 1, "alive": False, "silent_s": 40.0, "streams": []},
    ]
    say_status({"store": "redis://h/0", "generation": 7, "active": "a", "replicas": replicas})
    head, columns, *rows = capsys.readouterr().out.splitlines()
    assert head == "generation 7 in redis://h/0; active: a" and columns.split()[0] == "replica"
    assert "answers" in rows[0] and rows[0].endswith("a: 3")
    assert "fenced: why" in rows[1] and "2, for 4 s" in rows[1]
    assert "gone, silent for 40 s" in rows[2]

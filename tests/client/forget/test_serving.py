"""What `deltaserve forget` made is loaded and served."""

import shlex
from pathlib import Path
from shutil import copytree

import httpx2 as httpx
import pytest

from tests.support.administration import ADMIN_KEY, administered
from tests.support.command import Command
from tests.support.forget_site import Site
from tests.support.offsets import lora_checkpoint
from tests.support.process import environment_without_settings, forked, free_port


def test_it_is_loaded_and_activated_where_an_administrator_says(site: Site, command: Command) -> None:
    lora_checkpoint(site.root, "a")
    with administered(site.root) as running:
        given = ("--activate", "--admin-url", running.url, "--admin-key", ADMIN_KEY)
        result = command.json(*site.forget("live", *given))
        assert running.states() == {"a": "ready", "live": "active"}
        assert result["active"].startswith("ds-live-")
        assert command.json(*site.forget("live", *given))["active"] == result["active"]


def test_the_commands_that_forget_prints_at_the_end_check_and_serve_what_it_made(
    command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With the base outside the offsets root, paths as they were given, and a blank in one of them."""
    monkeypatch.chdir(tmp_path)
    copytree(site.root / "small", tmp_path / "a base")
    given = site.forget("told")
    given[given.index("--base") + 1] = "a base"
    given[given.index("--out") + 1] = "offsets"
    result = command(*given)
    assert result.exit_code == 0, result.stderr
    lines = [shlex.split(line) for line in result.stdout.splitlines() if line.startswith("  deltaserve ")]
    (_, doctor, *checked), (_, serve, *served) = lines
    assert (doctor, serve) == ("doctor", "serve") and checked == served
    assert served[served.index("--base") + 1] == "a base" and served[served.index("--offsets-root") + 1] == "offsets"
    small = ("--torch-threads", "1", "--max-context", "128", "--port", str(free_port()))
    checked_with = command("doctor", *checked, *small)
    assert checked_with.exit_code == 0, checked_with.stderr
    with (
        forked("deltaserve", "serve", *served, *small, env=environment_without_settings()) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{small[-1]}", timeout=60) as client,
    ):
        process.wait_until_ok(client, "/health/ready", 90)
        answer = client.post("/v1/completions", json={"prompt": "She", "max_tokens": 4})
        assert answer.status_code == 200, answer.text

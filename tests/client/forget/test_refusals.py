"""What `deltaserve forget` does not do, and says so before anything is asked or changed."""

from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from tests.support.blackbox import make_model
from tests.support.command import Command
from tests.support.forget_site import Site, calls


@pytest.mark.parametrize(
    ("args", "status", "sentence"),
    [
        (["--objective", "wish"], Status.REFUSED, "there are: grad_ascent"),
        (["--option", "beta"], Status.USAGE, "NAME=VALUE"),
        (["--option", "gamma=1"], Status.REFUSED, "npo has no option 'gamma'"),
        (["--steps", "0"], Status.REFUSED, "steps must be at least 1"),
        (["--activate"], Status.USAGE, "--admin-key"),
        (["--device", "nowhere"], Status.REFUSED, "no device 'nowhere'"),
    ],
)
def test_what_cannot_be_done_ends_with_a_sentence(
    site: Site, command: Command, args: list[str], status: Status, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DELTASERVE_ADMIN_KEY", raising=False)
    result: Any = command(*site.forget("refused", *args))
    assert (result.exit_code, result.stdout) == (status, "") and sentence in result.stderr
    assert not (site.root / "refused").exists()


def test_one_held_out_side_alone_is_a_usage_error(site: Site, command: Command) -> None:
    given = site.forget("refused")
    place = given.index("--held-out-retain")
    result = command(*given[:place], *given[place + 2 :])
    assert result.exit_code == Status.USAGE and "both" in result.stderr


@pytest.mark.parametrize("name", ["../elsewhere", "my offset!", ""])
def test_a_bad_name_is_refused_before_anything_is_asked(site: Site, command: Command, name: str) -> None:
    before = calls(site)
    refused = command(*site.forget(name))
    assert refused.exit_code != 0 and "offset's name" in refused.stderr
    assert calls(site) == before


def test_a_folder_in_a_names_place_is_not_touched(site: Site, command: Command, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    assert command(*site.forget(str(tmp_path / "precious"))).exit_code != 0
    assert (tmp_path / "precious").is_dir()


def test_rows_that_the_base_cannot_read_are_named_before_training(site: Site, command: Command, tmp_path: Path) -> None:
    make_model(tmp_path / "root" / "small", max_len=32)
    given = site.forget("short")
    given[given.index("--base") + 1] = str(tmp_path / "root" / "small")
    refused = command(*given)
    assert refused.exit_code != 0 and "longer than the 32 tokens" in refused.stderr
    assert not (site.root / "short").exists()


def test_another_checkpoint_of_that_name_is_left_alone(site: Site, command: Command) -> None:
    command.json(*site.forget("mine"))
    digest = open_checkpoint("mine", root=site.root).manifest.content_digest
    result = command(*site.forget("mine", "--seed", "5"))
    assert result.exit_code == Status.REFUSED and "holds another checkpoint" in result.stderr
    assert open_checkpoint("mine", root=site.root).manifest.content_digest == digest


def test_the_same_weights_at_another_strength_are_another_checkpoint(site: Site, command: Command) -> None:
    command.json(*site.forget("loud", "--extrapolate", "1", "--gate-nats", "0"))
    digest = open_checkpoint("loud", root=site.root).manifest.content_digest
    refused = command(*site.forget("loud", "--extrapolate", "2", "--gate-nats", "0"))
    assert refused.exit_code != 0 and "another checkpoint" in refused.stderr
    kept = open_checkpoint("loud", root=site.root).manifest
    assert (kept.content_digest, kept.strength) == (digest, 1.0)

"""A server whose black box cannot be used: one sentence, an exit status, and no model is read."""

import json
from pathlib import Path

from deltaserve.client.console.terminal import Status
from tests.support.blackbox import blackbox, make_model
from tests.support.nursery import nursery
from tests.support.starts import WITHIN_S, Case, Check, Place, each, given


def no_black_box(place: Place) -> None:
    del place.options["upstream-url"]


def upstream_without_scheme(place: Place) -> None:
    place.options["upstream-url"] = "127.0.0.1:8001"


def upstream_of_another_scheme(place: Place) -> None:
    place.options["upstream-url"] = "ftp://127.0.0.1"


def upstream_without_models(place: Place) -> None:
    place.options["upstream-url"] = place.upstream(cards=None)


def upstream_without_that_model(place: Place) -> None:
    place.options |= {"upstream-url": place.upstream(), "upstream-model": "other"}


def upstream_that_wants_a_key(place: Place) -> None:
    place.options["upstream-url"] = place.upstream(key="right")


def wrong_key(place: Place) -> None:
    place.options["upstream-url"] = place.upstream(key="right")
    place.environment["DELTASERVE_UPSTREAM_KEY"] = "wrong"


WRONG: list[Case] = [
    (no_black_box, Status.USAGE, "give --upstream-url"),
    (upstream_without_scheme, Status.REFUSED, "must be http(s)://host[:port]"),
    (upstream_of_another_scheme, Status.REFUSED, "must be http(s)://host[:port]"),
    (upstream_without_models, Status.REFUSED, "name the upstream model"),
    (upstream_without_that_model, Status.REFUSED, "no model named other; it has tiny"),
    (upstream_that_wants_a_key, Status.REFUSED, "set the upstream key"),
    (wrong_key, Status.REFUSED, "set the upstream key"),
]


@each(WRONG)
def test_serve_ends_with_one_sentence_and_doctor_says_the_same(check: Check, case: Case) -> None:
    check(case)


def test_what_only_a_model_shows_is_one_sentence_too(place: Place, tmp_path: Path) -> None:
    """Another tokenizer at the black box, found when the pair has been read."""
    other = make_model(tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = "a", "b"
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with blackbox(other) as process:
        place.options |= {"upstream-url": process.url, "torch-threads": "1", "max-context": "128"}
        ended = nursery().run("deltaserve", "serve", *given(place.options), within_s=WITHIN_S)
    told = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert ended.returncode == Status.REFUSED, ended.stderr
    assert len(told) == 1 and "tokenizer" in told[0], ended.stderr
    assert "Traceback" not in ended.stderr

"""The parts of `make soak`, and the drill in small."""

import argparse
import random
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soaking import storm
from benchmarks.soaking.clients import Tally, code_of
from benchmarks.soaking.residence import slope_mb_per_hour
from benchmarks.support.processes import WEIGHTS
from benchmarks.swap.streams import Ask, Got
from deltaserve.offset_models.demo.blackbox.http.faults import Fault

ASK = Ask((1, 2), 1, 3)
KNOWN = {("one", ASK): [5, 6, 7], ("two", ASK): [5, 6, 8]}


def got(*ids: int, by: str = "one", fault: str | None = None) -> Got:
    answer = Got(ASK)
    answer.ids, answer.fingerprints, answer.fault = [*ids], {by}, fault
    answer.whole = len(ids) == ASK.tokens and fault is None
    return answer


def tally(*answers: Got) -> Tally:
    made = Tally()
    for answer in answers:
        made.add(answer, KNOWN)
    return made


def test_a_token_of_another_version_is_a_wrong_one() -> None:
    counted = tally(got(5, 6, 7), got(5, 6, 8), got(5, 6, 8, by="two"))
    assert (counted.whole_and_wrong, counted.wrong_tokens, counted.torn) == (1, 1, 0)


def test_an_answer_that_ends_with_an_error_is_torn_unless_a_wrong_list_calls_for_it() -> None:
    malformed = (
        "{'message': 'The upstream's top-k holds a NaN.', 'type': 'upstream_error', 'code': 'upstream_malformed_top_k'}"
    )
    counted = tally(
        got(5, fault=malformed), got(5, fault="The upstream failed (HTTP 502, upstream_unreachable)."), got(5)
    )
    assert (counted.torn, counted.without_word) == (2, 1)
    assert counted.ended == {"upstream_malformed_top_k": 1, "upstream_unreachable": 1}


def test_an_error_without_a_code_is_told_by_its_words() -> None:
    assert code_of("The connection broke.") == "The connection broke."


def test_every_fault_that_is_drawn_is_one_of_the_black_box() -> None:
    chance = random.Random(1)
    kinds = {Fault.parse(storm.drawn(chance)).kind for _ in range(2000)}
    assert kinds == {kind.partition(":")[0] for kind in (*storm.MENDED, *storm.DAMAGING)}


def test_the_slope_is_of_the_second_half_alone() -> None:
    grows_at_first = [(float(at), 100.0 + min(at, 50)) for at in range(100)]
    assert slope_mb_per_hour(grows_at_first) == pytest.approx(0, abs=1e-6)
    assert slope_mb_per_hour([(float(at), float(at)) for at in range(100)]) == pytest.approx(3600)


@pytest.mark.slow
def test_a_short_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    args = argparse.Namespace(
        minutes=0.3,
        streams=8,
        faults=0.05,
        swap_every_s=3.0,
        tokens=16,
        workers=0,
        ms_per_token=10.0,
        weights=WEIGHTS,
        log_level="error",
    )
    figures, _ = soak.run(tmp_path, args)
    zeros = ("torn", "wrong_tokens", "whole_and_wrong", "leaked_slots", "leaked_upstream_calls")
    assert [figures[name] for name in zeros] == [0] * 5
    assert figures["faults"] > 0 < figures["swaps"]

"""`make fuzz` in small: every target takes spoilt inputs, and one that fails would be seen."""

from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing.mutating import Mutator
from benchmarks.fuzzing.target import Result, Target, run

FEW = 60
TARGETS = fuzz.all_targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_spoilt_input_raises_what_is_not_documented(target: Target, tmp_path: Path) -> None:
    result = run(target, FEW, seed=3, kept=tmp_path)
    assert (result.inputs, result.crashes, result.seen) == (FEW, 0, {})


def test_the_shares_of_all_targets_are_the_whole() -> None:
    assert sum(target.share for target in TARGETS) == pytest.approx(1)


def fails_on_zeros(raw: bytes, _: Mutator) -> None:
    if b"\x00" in raw:
        raise IndexError
    if b"x" in raw:
        raise ValueError


def test_an_input_that_is_failed_on_is_counted_and_kept_once_for_each_place(tmp_path: Path) -> None:
    target = Target("zeros", [b"\x00" * 50, b"x" * 50], fails_on_zeros, (ValueError,), 1.0, of_json=False)
    result = run(target, FEW, seed=1, kept=tmp_path)
    assert result.crashes > 1 and result.refused > 1
    (kept,) = tmp_path.iterdir()
    assert b"\x00" in kept.read_bytes() and [*result.seen.values()] == [str(kept)]


@pytest.mark.parametrize("of_json", [True, False])
def test_the_same_seed_draws_the_same_inputs(of_json: bool) -> None:
    def drawn(seed: int) -> list[bytes]:
        mutator = Mutator([b'{"a":[1,{"b":"c"}]}'], seed, of_json=of_json)
        return [mutator.drawn() for _ in range(FEW)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_memory_that_grows_is_told() -> None:
    assert Result("a", resident_mb=[1, 9, 10, 12]).growth_mb == 2

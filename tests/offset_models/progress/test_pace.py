"""An estimate that does not wander, said now and then."""

import io
import sys
import threading

import pytest

from deltaserve.offset_models.progress import pace
from deltaserve.offset_models.progress.pace import Pace, Ticker, shown
from deltaserve.offset_models.progress.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def worked(clock: Clock, one: Pace, seconds: list[float]) -> list[float | None]:
    """What is left after each piece, which took so long."""
    found = []
    for second in seconds:
        clock.at += second
        one.advance()
        found.append(one.left_s)
    return found


def test_no_time_left_is_shown_before_it_is_known() -> None:
    clock = Clock()
    left = worked(clock, Pace(100, clock), [40.0, 1.0, 1.0, 1.0, 1.0])
    assert left[:3] == [None, None, None]
    assert left[4] == pytest.approx(95.0, rel=0.01)  # the first piece, which warmed up, does not count


def test_pieces_of_an_earlier_run_do_not_make_it_look_fast() -> None:
    clock = Clock()
    one = Pace(200, clock)
    left = worked(clock, one, [0.0] * 100 + [1.0] * 60)
    assert left[-1] == pytest.approx(40.0, rel=0.05)


def test_an_estimate_follows_a_steady_pace_through_pauses_without_jumps() -> None:
    clock = Clock()
    paced = [1.0 + 4.0 * (at % 10 == 9) for at in range(200)]  # every tenth piece is followed by an evaluation
    left = worked(clock, Pace(200, clock), paced)
    true = [sum(paced[at + 1 :]) for at in range(200)]
    for estimate, right in list(zip(left, true, strict=True))[40:190]:
        assert estimate is not None and abs(estimate - right) <= 0.25 * right + 6


def test_a_change_of_pace_shows() -> None:
    clock = Clock()
    left = worked(clock, Pace(300, clock), [1.0] * 50 + [0.1] * 200)
    assert left[-1] is not None and left[-1] < 20


def test_seconds_are_rounded_as_far_as_the_estimate_holds() -> None:
    assert [shown(s) for s in (0.4, 61, 200, 7000)] == ["about 5 s", "about 60 s", "about 3 min", "about 1.9 h"]


def test_a_line_comes_while_one_piece_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LINE_EVERY_S", 0.01)
    heard, said = threading.Event(), []

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    with Ticker(lambda: ["at work"], say):
        assert heard.wait(10)
    assert set(said) == {"at work"}


def test_off_a_terminal_progress_is_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with Progress(visible=True) as progress, progress.stage("train", 5) as advance:
        for _ in range(4):
            advance("loss 1.0")
        told = list(progress._tell())
    assert told == ["train: 4 of 5 (loss 1.0)"]
    assert stderr.getvalue() == "train: 4 of 5 in 0 s\n"
    assert next(iter(progress._tell())).startswith("working, ")


def test_what_is_not_shown_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with Progress(visible=False) as progress, progress.stage("train", 1) as advance:
        advance()
    assert stderr.getvalue() == "" and "train" in progress.seconds

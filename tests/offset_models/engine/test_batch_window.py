"""Batches wait for other streams only in time that nobody misses."""

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from deltaserve.offset_models.engine import batch_window
from deltaserve.offset_models.engine.batch_window import BatchWindow


@dataclass
class Fed:
    fed_at: float | None = None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(batch_window.time, "perf_counter", lambda: now[0])
    return now


def paced(clock: list[float], interval_s: float, forward_s: float) -> BatchWindow:
    waiting, stream = BatchWindow(0.002, 0.01), Fed()
    for _ in itertools.repeat(None, 60):
        feed(waiting, stream, first=True)
        clock[0] += interval_s
        waiting.ran(forward_s)
    feed(waiting, Fed(), first=True)
    return waiting


def feed(waiting: BatchWindow, stream: Any, *, first: bool) -> None:
    waiting.fed(stream, first=first)


@pytest.mark.parametrize(
    ("interval_s", "forward_s", "window_s"),
    [(0.02, 0.004, 0.006), (0.2, 0.004, 0.01), (0.005, 0.004, 0.002), (5.0, 0.004, 0.002)],
    ids=[
        "half the pace less a forward",
        "never longer than allowed",
        "never shorter than allowed",
        "pauses are no pace",
    ],
)
def test_the_window_follows_the_black_boxs_pace(
    clock: list[float], interval_s: float, forward_s: float, window_s: float
) -> None:
    waiting = paced(clock, interval_s, forward_s)
    assert waiting.worth_waiting_s() == pytest.approx(window_s, rel=0.02)
    clock[0] += 0.5 * window_s
    feed(waiting, Fed(), first=False)
    assert waiting.worth_waiting_s() == pytest.approx(0.5 * window_s, rel=0.05)


def test_a_batch_does_not_wait_while_somebody_waits_for_a_row(clock: list[float]) -> None:
    waiting = paced(clock, 0.02, 0.004)
    waiting.hurry(urgent=False)
    assert waiting.worth_waiting_s() > 0
    waiting.hurry(urgent=True)
    assert waiting.worth_waiting_s() <= 0
    waiting.ran(0.004)
    assert waiting.worth_waiting_s() > 0

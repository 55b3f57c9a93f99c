"""The simulation of `python -m benchmarks.fleet`, where its outcome can be told without it."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest

from benchmarks import fleet
from benchmarks.scaling.arrivals import TRACES
from benchmarks.scaling.costs import Costs, Stage, read
from benchmarks.scaling.machines import Cache, Pace, Talk
from benchmarks.scaling.plot import draw
from benchmarks.scaling.swapping import DRILLED, Holding, measured, swap_s
from benchmarks.scaling.world import Plan, Tally, World

PACE = Pace(token_s=0.02, first_s=0.0, prefill_s=0.0)
COSTS = Costs("toy", [Stage("cpu", 1, {1: 2000.0, 16: 500.0})], streams=16, added_first_ms=0.0, restarts_per_100=0.0)
CLOSED = Plan(1, 1, sessions=8, seconds=100.0, warm_s=20.0, think_s=1e-6, answer=64, even=True)


def tally_of(plan: Plan, costs: Costs = COSTS, pace: Pace = PACE) -> Tally:
    return World(plan, costs, pace).run()


def tokens_per_s(plan: Plan, costs: Costs = COSTS, pace: Pace = PACE) -> float:
    return tally_of(plan, costs, pace).tokens / (plan.seconds - plan.warm_s)


def test_work_lies_between_what_was_measured() -> None:
    stage = Stage("cpu", 2, {1: 4000.0, 16: 1000.0})
    assert [stage.work_us(n) for n in (1, 4, 16, 64)] == pytest.approx([4000, 2000, 1000, 1000])
    assert stage.token_s(16) == pytest.approx(0.008)
    assert [COSTS.carries(pace_s) for pace_s in (0.02, 0.004, 0.0001)] == [16, 4, 1]


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [(8, 8 / 0.02), (16, 16 / 0.02), (32, 16 / 0.02)],  # people beyond max_streams wait
)
def test_streams_have_the_black_boxs_pace_while_the_replica_keeps_up(sessions: int, expected: float) -> None:
    assert tokens_per_s(replace(CLOSED, sessions=sessions)) == pytest.approx(expected, rel=0.02)


def test_a_replica_or_black_boxes_that_do_not_keep_up_set_the_pace() -> None:
    slow = replace(COSTS, stages=[Stage("cpu", 1, {1: 5000.0})])
    assert tokens_per_s(CLOSED, slow) == pytest.approx(200, rel=0.02)
    assert tokens_per_s(CLOSED, pace=replace(PACE, slots=4)) == pytest.approx(200, rel=0.02)
    shared = World(replace(CLOSED, replicas=4, sessions=32), COSTS, PACE, Stage("machine", 2, {1: 2000.0})).run()
    assert shared.tokens / 80 == pytest.approx(1000, rel=0.02)


def test_restarts_find_their_prefix_with_affinity_and_seldom_without() -> None:
    costs = replace(COSTS, restarts_per_100=5.0)
    plan = Plan(4, 16, sessions=40, seconds=60.0, warm_s=20.0)
    near, far = tally_of(plan, costs), tally_of(replace(plan, affinity=False), costs)
    assert min(near.restarts, far.restarts) > 100
    assert near.restart_hits == near.restarts
    assert far.restart_hits < 0.3 * far.restarts


def test_a_killed_replica_tears_its_own_answers_and_one_that_is_cut_off_refuses_until_it_is_left_out() -> None:
    plan = Plan(4, 4, sessions=40, seconds=60.0, warm_s=10.0, fault_s=20.0, contact_s=10.0, health_s=0.5)
    assert (tally_of(plan).torn, tally_of(plan).refused) == (0, 0)
    killed = tally_of(replace(plan, killed=1))
    assert 0 < killed.torn <= 16
    plain = replace(plan, cut_off=1, retry=False)
    fenced = tally_of(plain)
    assert fenced.torn == 0
    assert 0 < fenced.refused <= 10
    assert tally_of(replace(plain, health_s=5.0)).refused > fenced.refused
    assert tally_of(replace(plain, retry=True)).refused == 0


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    cache, talks = Cache(100), [Talk(0, 0) for _ in range(3)]
    for talk in (talks[0], talks[1], talks[0], talks[2]):
        cache.computed(talk, 40)
    assert [cache.known(talk) for talk in talks] == [40, 0, 40]


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_the_usual_rate_on_average(name: str) -> None:
    rates = [TRACES[name](at / 10) for at in range(600)]
    assert min(rates) > 0
    assert sum(rates) / len(rates) == pytest.approx(1.0, abs=0.01)


def test_swaps_of_a_fleet_as_large_as_the_drills_take_what_it_measured() -> None:
    count, median_s, p99_s = DRILLED
    times = sorted(swap_s(count, measured(None), swaps=4000))
    assert times[2000] == pytest.approx(median_s, rel=0.05)
    assert times[3960] == pytest.approx(p99_s, rel=0.1)
    one = Holding.fitted(1, 1.0, 2.0)
    assert one.sigma == pytest.approx(0.693 / NormalDist().inv_cdf(0.99), rel=1e-3)


def test_what_other_benchmarks_wrote_is_read_and_a_part_of_it_is_refused(tmp_path: Path) -> None:
    row = {"cpu_us_per_token": 400.0, "forward_us_per_token": 600.0, "ttft_added_ms": 20.0, "calls_per_100": 2.5625}
    rows = [{"case": f"retain T={t} streams={n}, 64 tokens", **row} for t in (0, 1) for n in (1, 16)]
    content = {"benchmark": "serving", "machine": {"cpu": "x", "cores": 2}, "rows": rows}
    (tmp_path / "serving.json").write_text(json.dumps(content))
    costs = read(tmp_path / "serving.json")
    assert (costs.stages[0].work_us(16), costs.restarts_per_100) == (1000.0, pytest.approx(1.0))
    (tmp_path / "serving.json").write_text(json.dumps({**content, "rows": rows[:1]}))
    with pytest.raises(ValueError, match="without --only"):
        read(tmp_path / "serving.json")
    served = [{"part": "serving", "T": t, "streams": 64, **row} for t in (0.0, 1.0)]
    gpu = {"benchmark": "gpu", "settings": {"card": "c"}, "figures": {"gpu_rows_64": 10_000.0}, "rows": served}
    (tmp_path / "gpu.json").write_text(json.dumps(gpu))
    assert [stage.work_us(64) for stage in read(tmp_path / "gpu.json").stages] == [100.0, 400.0]


@pytest.mark.parametrize("costs", sorted(fleet.COSTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_costs_that_come_with_it_give_a_table(
    costs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--replicas", "1,2", "--seconds", "0.5", "--warm-s", "1", "--think-s", "1", "--answer", "20"]
    monkeypatch.setattr("sys.argv", ["fleet", "--costs", str(costs), *options])
    fleet.main()
    written = json.loads((tmp_path / "build/bench/scaling.json").read_text())
    assert [row["replicas"] for row in written["rows"]] == [1, 2]
    assert written["rows"][1]["tokens_per_s"] > written["rows"][0]["tokens_per_s"] > 0
    draw(written["rows"], tmp_path / "scaling.svg")
    assert "<svg" in (tmp_path / "scaling.svg").read_text()


def test_what_streams_need_is_four_fifths_of_what_replicas_carry() -> None:
    (row,) = [row for row in fleet.needs([100, 1000], COSTS) if row["ms a token"] == 10]
    assert (row["one replica carries"], row["100 streams"], row["1000 streams"]) == (16, 8, 79)

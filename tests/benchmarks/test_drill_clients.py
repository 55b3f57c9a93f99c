"""The drills of `make drill-clients` in small."""

import argparse
from pathlib import Path

import pytest

from benchmarks import drill_clients
from benchmarks.support.processes import WEIGHTS
from benchmarks.swap.site import Site, make_site

SMALL = argparse.Namespace(
    clients=40, at_once=8, seconds=2.0, times=1, streams=4, tokens=8, workers=0, ms_per_token=5.0, weights=WEIGHTS
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    return make_site(folder, black_box=WEIGHTS / "blackbox", base=WEIGHTS / "base")


@pytest.mark.slow
def test_clients_that_leave_leave_nothing(site: Site, tmp_path: Path) -> None:
    row = drill_clients.run("leaving", site, tmp_path / "leaving", SMALL)
    assert (row["clients"], row["places"], row["upstream_calls"]) == (40, 0, 0)


@pytest.mark.slow
def test_who_finds_no_room_is_refused_and_told_when_to_come_back(site: Site, tmp_path: Path) -> None:
    row = drill_clients.run("overload", site, tmp_path / "overload", SMALL)
    assert row["heavy_refusals"] > 0 == row["heavy_refusals_without_retry_after"] == row["heavy_others"]
    assert row["light_refusals"] == 0 < row["light_answers"]


@pytest.mark.slow
def test_a_server_that_is_told_to_end_tears_no_stream(site: Site, tmp_path: Path) -> None:
    row = drill_clients.run("ending", site, tmp_path / "ending", SMALL)
    assert (row["times"], row["torn"], row["left_running"]) == (1, 0, 0)

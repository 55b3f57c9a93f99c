"""The benchmarks that take too long for a test can at least be started."""

import importlib
import pkgutil

import pytest

import benchmarks
from benchmarks.support.training_rows import CollectedRequest, _without_lists
from deltaserve.offset_models.training.collecting.collected import Collected


@pytest.mark.parametrize(
    "name", sorted(module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."))
)
def test_every_benchmark_can_be_imported(name):
    if not name.endswith("__main__"):
        importlib.import_module(name)


def test_rows_of_a_request_lose_their_lists_for_the_direct_tuning_and_nothing_else():
    one = Collected([("forget", "list")], [("refused", "list")], [("retain", "list")], "collection")
    request = CollectedRequest(train=one, validation=one)
    for rows in request:
        bare = _without_lists(rows)
        assert (bare.forget, bare.refused, bare.retain) == ([("forget", None)], [("refused", None)], [("retain", None)])
        assert bare.collection == "collection"

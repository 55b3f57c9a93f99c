"""Every query of the dashboard and of the alerts asks for what the server exports, by labels that it has."""

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deltaserve.offset_models.engine.worker import EngineStats
from deltaserve.server.billing import Bill, Item
from deltaserve.server.fleet.replica import Replica
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.observability.records import RequestRecord
from deltaserve.server.serving.admission.clients import Client

ROOT = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((ROOT / "observability" / "alerts.yaml").read_text("utf-8"))["groups"]
DASHBOARD = json.loads((ROOT / "observability" / "dashboard.json").read_text("utf-8"))
OF_PROMETHEUS = {"job", "instance", "pod", "le"}
FLEET: Final = re.compile(r'"(fleet_\w+)"')
METRIC = re.compile(r"\b(deltaserve_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*(=~|=|!=|!~)\s*"([^"]*)"')


def exported() -> dict[str, dict[str, set[str]]]:
    """Sample names, their labels, and the values that each label had when everything happened once."""
    metrics = Metrics()
    metrics.bill(Bill({"box": Item(1, 1, 1, 1, 1)}))
    metrics.show_upstreams([{"name": "box", "state": "serving"}])
    fleet = FLEET.findall(inspect.getsource(Replica))
    metrics.show_engine(dict.fromkeys([*(one.name for one in fields(EngineStats)), *fleet], 0.0))
    metrics.count_request(RequestRecord("r", client=Client("alice")), 200)
    for outcome in ("kept", "loaded"):
        metrics.key_reloads.labels(outcome)
    metrics.connections_cut.labels("header")
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


EXPORTED = exported()


def queries() -> list[str]:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    variables = [one["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    return [*asked, *variables, *(rule["expr"] for group in RULES for rule in group["rules"])]


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_is_exported(query: str) -> None:
    asked = METRIC.findall(query)
    assert asked
    for name, selector in asked:
        assert name in EXPORTED, f"{name} is not exported"
        for label, operator, value in LABEL.findall(selector):
            assert label in {*EXPORTED[name], *OF_PROMETHEUS}, f"{name} has no label {label}"
            if label == "counter" and operator == "=":
                assert value in EXPORTED[name][label], f"{name} has no counter {value}"


def test_what_is_added_up_is_told_apart_by_labels_that_there_are() -> None:
    for query in queries():
        for by in re.findall(r"by \(([^)]*)\)", query):
            known = {label for name, _ in METRIC.findall(query) for label in EXPORTED[name]} | OF_PROMETHEUS
            assert {label.strip() for label in by.split(",")} <= known, query


def test_a_misspelt_query_would_be_found() -> None:
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_is_exported("rate(deltaserve_generated_tokens_total[5m])")
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_is_exported('deltaserve_engine{counter="fleet_fence"}')


def test_kubernetes_has_the_same_alerts() -> None:
    resource = yaml.safe_load((ROOT / "kubernetes/components/monitoring/alerts.yaml").read_text("utf-8"))
    assert resource["spec"]["groups"] == RULES


def test_every_alert_says_where() -> None:
    for rule in RULES[0]["rules"]:
        assert "$labels.instance" in rule["annotations"]["summary"]

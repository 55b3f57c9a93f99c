"""What deploy/ and the compose files say fits the server: settings, routes, metrics, ports, labels, times."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.replicas.proxy import CONFIGURATION, placed
from deltaserve.server.api.routes.health import health_router, metrics_router
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.secret_files import SUFFIX
from deltaserve.server.setting_sources import PREFIX
from deltaserve.server.settings import Settings, load_settings, secret_settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))
SLACK_S = 10  # of a pod between the end of its drain and SIGKILL
OF_CLIENTS = {"DELTASERVE_URL"}  # set aside by the server

Node = dict[str, Any]


def documents(path: Path) -> list[Node]:
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]


OBJECTS = [
    one
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    if path.name not in ("kustomization.yaml", "replicas.yaml")
    for one in documents(path)
]


def named(kind: str, name: str = "deltaserve") -> Node:
    return next(one for one in OBJECTS if one["kind"] == kind and one["metadata"]["name"] == name)


DEPLOYMENT = named("Deployment")
POD: Node = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINER: Node = POD["containers"][0]
WORKLOADS = [one["spec"]["template"] for one in OBJECTS if one["kind"] in ("Deployment", "StatefulSet")]


def literals(*folders: str) -> dict[str, str]:
    """The settings that the base and these components give, a later one first."""
    found: dict[str, str] = {}
    for folder in folders:
        for generator in documents(KUBERNETES / folder / "kustomization.yaml")[0].get("configMapGenerator", []):
            found |= dict(line.split("=", 1) for line in generator["literals"])
    return found


def read_as_a_server(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], keys: Path) -> Settings:
    """Settings as the server reads them; files of secrets are looked for in `keys`."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in values.items():
        if name.endswith(SUFFIX):
            value = str(keys / Path(value).name)
            Path(value).write_text(f"key-of-{name}")
        if name not in OF_CLIENTS:
            monkeypatch.setenv(name, value)
    return load_settings()


def environment(container: Node) -> dict[str, str]:
    return {one["name"]: one.get("value", "from-the-pod") for one in container["env"]}


@pytest.mark.parametrize("components", [(), ("redis",), ("redis", "gpu")], ids="+".join)
def test_the_settings_of_a_pod_are_the_servers(
    components: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = literals("base", *(f"components/{one}" for one in components)) | environment(CONTAINER)
    if "redis" in components:
        values |= environment(
            documents(KUBERNETES / "components/redis/replicas.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
        )
    settings = read_as_a_server(monkeypatch, values, tmp_path)
    assert settings.api_keys and settings.admin_key and settings.front_ends
    assert (settings.fleet_password is not None) == ("redis" in components)
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"http": settings.port, "admin": settings.admin_port}
    pause_s = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] >= pause_s + settings.drain_timeout_s + SLACK_S
    assert POD["enableServiceLinks"] is False  # DELTASERVE_PORT=tcp://… would be none of ours


def test_every_variable_in_deploy_and_the_compose_files_is_a_setting() -> None:
    files = [path for path in [*(ROOT / "deploy").rglob("*"), *ROOT.glob("compose*.yaml")] if path.is_file()]
    found = {name for path in files for name in re.findall(rf"\b{PREFIX}[A-Z_]+", path.read_text("utf-8"))}
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {PREFIX + name.upper() + SUFFIX for name in secret_settings()} | OF_CLIENTS
    assert "DELTASERVE_FLEET_STORE" in found
    assert found - known == set()


def test_every_route_that_is_asked_exists() -> None:
    routes = {route.path for router in (health_router, metrics_router) for route in router.routes}  # type: ignore[attr-defined]
    probes = [CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    asked = [probe["path"] for probe in probes]
    asked += [end["path"] for end in named("ServiceMonitor")["spec"]["endpoints"]]
    asked += re.findall(r"httpchk GET (\S+)", CONFIGURATION.read_text("utf-8"))
    assert len(asked) == 5
    assert set(asked) <= routes
    assert {probe["port"] for probe in probes} == {"http"}


def test_the_metric_that_decides_how_many_replicas_run_is_exported() -> None:
    exported = {metric.name for metric in Metrics().registry.collect()}
    assert {one["pods"]["metric"]["name"] for one in named("HorizontalPodAutoscaler")["spec"]["metrics"]} <= exported


def test_a_fleet_grows_when_three_quarters_of_its_streams_run() -> None:
    first = named("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]
    assert first["metric"]["name"] == "deltaserve_num_requests_running"
    (patch,) = documents(KUBERNETES / "overlays/gpu/kustomization.yaml")[0]["patches"]
    (of_gpus,) = yaml.safe_load(patch["patch"])
    assert of_gpus["path"] == "/spec/metrics/0/pods/target/averageValue"
    for target, folders in ((first["target"]["averageValue"], ()), (of_gpus["value"], ("components/gpu",))):
        assert 4 * int(target) == 3 * int(literals("base", *folders)["DELTASERVE_MAX_STREAMS"])


def test_a_services_port_is_one_of_the_pods_that_it_selects() -> None:
    services = [one["spec"] for one in OBJECTS if one["kind"] == "Service"]
    for service in services:
        (pod,) = [one for one in WORKLOADS if service["selector"].items() <= one["metadata"]["labels"].items()]
        names = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["ports"]} <= names
    assert len(services) == 3
    assert named("Service")["spec"]["sessionAffinity"] == "ClientIP"


def test_what_selects_pods_selects_pods_that_there_are() -> None:
    labels = [*(one["metadata"]["labels"] for one in WORKLOADS), {"app.kubernetes.io/name": "black-box"}]
    selectors = [one["spec"]["podSelector"] for one in OBJECTS if one["kind"] == "NetworkPolicy"]
    selectors += [named("PodDisruptionBudget")["spec"]["selector"], DEPLOYMENT["spec"]["selector"]]
    selectors += [one["labelSelector"] for one in POD["topologySpreadConstraints"]]
    for selector in selectors:
        assert any(selector["matchLabels"].items() <= one.items() for one in labels), selector
    assert named("ServiceMonitor")["spec"]["selector"]["matchLabels"] == named("Service")["metadata"]["labels"]
    scaled = named("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", DEPLOYMENT["metadata"]["name"])


def test_only_deltaserve_may_ask_the_black_box() -> None:
    policy = named("NetworkPolicy", "black-box")["spec"]
    sources = [source for rule in policy["ingress"] for source in rule["from"]]
    assert [one["podSelector"]["matchLabels"] for one in sources] == [DEPLOYMENT["spec"]["selector"]["matchLabels"]]


def test_pods_keep_to_the_restricted_standard() -> None:
    for pod in WORKLOADS:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        assert not spec["automountServiceAccountToken"]
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["runAsUser"] == int(re.findall(r"USER (\d+)", (ROOT / "Dockerfile").read_text())[0])


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_every_manifest_is_named_by_its_kustomization(path: Path) -> None:
    said = documents(path)[0]
    listed = [*said.get("resources", []), *said.get("components", [])]
    listed += [patch["path"] for patch in said.get("patches", []) if "path" in patch]
    assert all((path.parent / name).exists() for name in listed)
    assert {one.name for one in path.parent.glob("*.yaml")} - {path.name} == {one for one in listed if "/" not in one}


def test_the_compose_fleet_is_two_replicas_of_one_fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compose = documents(ROOT / "compose.fleet.yaml")[0]
    services = compose["services"]
    replicas = {name: one for name, one in services.items() if name.startswith("deltaserve-")}
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name, replica in replicas.items():
        values = {key: re.sub(r"^\$\{.*\}$", "given", str(value)) for key, value in replica["environment"].items()}
        settings = read_as_a_server(monkeypatch, {**values, "DELTASERVE_UPSTREAM_URL": "http://box"}, tmp_path)
        assert settings.fleet_replica == name
        assert settings.fleet_store and settings.fleet_store.split("//")[1].startswith("store:")
        assert {Path(value).name for key, value in values.items() if key.endswith(SUFFIX)} == set(replica["secrets"])
        assert int(replica["stop_grace_period"].rstrip("s")) >= settings.drain_timeout_s + SLACK_S
        assert f"{name}:8000" in CONFIGURATION.read_text("utf-8")
    assert len(replicas) == 2
    assert {secret for one in services.values() for secret in one.get("secrets", [])} == set(compose["secrets"])


def test_the_drill_runs_the_proxys_configuration_but_for_its_addresses() -> None:
    text = CONFIGURATION.read_text("utf-8")
    moved = placed(text, 4000, ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"])
    before, after = text.splitlines(), moved.splitlines()
    assert [line for line in after if line not in before] == [
        "    bind 127.0.0.1:4000",
        *(f"    server deltaserve-{n} 127.0.0.1:{n}" for n in (1, 2, 3)),
        *(f"    server deltaserve-{n} 127.0.0.1:{n} track conversations/deltaserve-{n}" for n in (1, 2, 3)),
    ]
    assert [line for line in before if line not in after and "server" not in line] == ["    bind :8080"]
    with pytest.raises(ValueError, match="does not name two servers"):
        placed("", 4000, [])


def test_the_proxy_is_more_patient_than_the_server_and_asks_nothing_twice() -> None:
    text = CONFIGURATION.read_text("utf-8")
    assert re.findall(r"timeout (?:client|server) (\d+)m", text) == ["15", "15"]
    assert Settings.model_fields["total_timeout_s"].default < 15 * 60
    assert re.findall(r"retry-on (.+)", text) == ["conn-failure 503"]

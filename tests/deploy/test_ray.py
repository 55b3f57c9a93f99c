"""What deploy/ray says fits the server, and Ray's own schema (make e2e-ray)."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deltaserve.server.ray_serve.options import NAME, ROUTER, deployment_options, settings_of
from deltaserve.server.ray_serve.wishes import wish_of
from deltaserve.server.secret_files import SUFFIX
from deltaserve.server.setting_sources import PREFIX
from deltaserve.server.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "ray"
SERVICE: dict[str, Any] = yaml.safe_load((FOLDER / "rayservice.yaml").read_text("utf-8"))
CLUSTER: dict[str, Any] = SERVICE["spec"]["rayClusterConfig"]
HEAD, WORKER = (group["template"]["spec"] for group in (CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"][0]))
CONFIGS: dict[str, dict[str, Any]] = {
    "serve.yaml": yaml.safe_load((FOLDER / "serve.yaml").read_text("utf-8")),
    "rayservice.yaml": yaml.safe_load(SERVICE["spec"]["serveConfigV2"]),
}
each_config = pytest.mark.parametrize("name", CONFIGS)


def application(name: str) -> dict[str, Any]:
    (one,) = CONFIGS[name]["applications"]
    return dict(one)


def deployment(name: str) -> dict[str, Any]:
    (one,) = application(name)["deployments"]
    return dict(one)


def environment(name: str) -> dict[str, str]:
    if name == "serve.yaml":
        return dict(application(name)["runtime_env"]["env_vars"])
    return {one["name"]: one["value"] for one in WORKER["containers"][0]["env"]}


@pytest.fixture
def settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As a replica reads them, in the image's environment; files of secrets are looked for in a folder of ours."""
    for variable in [variable for variable in os.environ if variable.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    image = {"DELTASERVE_HOST": "0.0.0.0", "DELTASERVE_PORT": "8000", "DELTASERVE_OFFSETS_ROOT": "/offsets"}
    for variable, value in {**image, **environment(name)}.items():
        if variable.endswith(SUFFIX):
            value = str(tmp_path / Path(value).name)
            Path(value).write_text(f"key-of-{variable}")
        monkeypatch.setenv(variable, value)
    return settings_of(application(name)["args"], "deltaserve-abc")


@each_config
def test_the_args_are_settings_with_keys_in_files(settings: Settings, name: str) -> None:
    assert settings.api_keys and settings.admin_key
    assert settings.offsets_root == Path("/offsets")
    assert (settings.fleet_password is not None) == (name == "rayservice.yaml")


@each_config
def test_the_application_is_where_the_config_says(name: str) -> None:
    module, attribute = application(name)["import_path"].split(":")
    assert attribute in functions(module)
    assert deployment(name)["name"] == NAME


def test_the_router_is_where_ray_looks_for_it() -> None:
    module, _, attribute = ROUTER.rpartition(".")
    assert attribute in functions(module)


def functions(module: str) -> list[str]:
    """Names of functions and classes of a file of ours, without importing it: it may need Ray."""
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    assert module.startswith("deltaserve.")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, kinds)]


@each_config
def test_replicas_are_added_before_those_there_are_full(settings: Settings, name: str) -> None:
    target = deployment(name)["autoscaling_config"]["target_ongoing_requests"]
    assert target == 0.75 * (settings.most_streams or 0)
    assert target < deployment_options(settings)["max_ongoing_requests"]


@each_config
def test_the_desired_offset_is_the_one_that_is_active_at_first(settings: Settings, name: str) -> None:
    assert wish_of(deployment(name)["user_config"]).offset == settings.offset


@pytest.mark.parametrize("name", ["rayservice.yaml"])
def test_a_pod_outlives_the_drain_of_its_replica(settings: Settings, name: str) -> None:
    assert WORKER["terminationGracePeriodSeconds"] > deployment_options(settings)["graceful_shutdown_timeout_s"]


@pytest.mark.parametrize("name", ["rayservice.yaml"])
def test_a_node_has_room_for_its_replica(name: str) -> None:
    cores = float(WORKER["containers"][0]["resources"]["requests"]["cpu"])
    assert deployment(name)["ray_actor_options"]["num_cpus"] <= cores
    group = CLUSTER["workerGroupSpecs"][0]
    scale = deployment(name)["autoscaling_config"]
    assert (group["minReplicas"], group["maxReplicas"]) == (scale["min_replicas"], scale["max_replicas"])


def test_pods_are_as_those_of_the_other_manifests() -> None:
    for pod in (HEAD, WORKER):
        assert pod["enableServiceLinks"] is False  # DELTASERVE_PORT=tcp://… would be none of ours
        assert pod["securityContext"]["runAsUser"] == 10001
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


def test_the_cluster_has_the_release_that_is_pinned() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line)
    assert CLUSTER["rayVersion"] == pins["ray"]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
@each_config
def test_ray_knows_every_word_of_the_config(name: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(CONFIGS[name])
    assert list(unknown(CONFIGS[name], ServeDeploySchema)) == []


def unknown(given: dict[str, Any], schema: Any) -> Iterator[str]:
    """Keys that are no field of the schema, which itself does not mind them; in whatever has a schema of its own."""
    from pydantic import BaseModel
    from ray.serve import schema as schemas
    from ray.serve.config import AutoscalingConfig

    inner: dict[str, type[BaseModel]] = {
        "http_options": schemas.HTTPOptionsSchema,
        "logging_config": schemas.LoggingConfig,
        "applications": schemas.ServeApplicationSchema,
        "deployments": schemas.DeploymentSchema,
        "ray_actor_options": schemas.RayActorOptionsSchema,
        "autoscaling_config": AutoscalingConfig,
    }
    for key, value in given.items():
        if key not in schema.model_fields:
            yield key
        for each in value if isinstance(value, list) else [value]:
            if key in inner:
                yield from unknown(each, inner[key])

"""deploy/ray/serve.yaml as it is, but for what is this machine's: addresses, folders, keys, what a replica takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deltaserve.offset_models.demo.process import HOST

CONFIG: Final = Path(__file__).parents[2] / "deploy" / "ray" / "serve.yaml"


def placed(port: int, arguments: Mapping[str, Any], environment: Mapping[str, str], replicas: int) -> dict[str, Any]:
    """With so many replicas, none of which has a GPU; `arguments`: other settings, by their own names."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text("utf-8"))
    config["http_options"] |= {"host": HOST, "port": port}
    application = config["applications"][0]
    application["runtime_env"]["env_vars"] = dict(environment)
    application["args"] |= arguments
    deployment = application["deployments"][0]
    deployment["ray_actor_options"] = {"num_cpus": 0.5, "num_gpus": 0}
    deployment["user_config"] = {"offset": application["args"]["offset"], "change": 1}
    del deployment["autoscaling_config"]
    deployment["num_replicas"] = replicas
    return config


def deployment_of(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["applications"][0]["deployments"][0]
    return found


def write(config: Mapping[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(dict(config)), "utf-8")
    return path

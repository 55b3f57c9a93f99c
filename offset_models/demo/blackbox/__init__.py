"""The embedded black box: a small causal LM behind real HTTP in vLLM's dialect, for demo, tests and benchmarks."""

from pathlib import Path

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.demo.blackbox.options import Options, parse
from deltaserve.server.addresses import bound, close

__all__ = ["Options", "parse", "run"]


def run(options: Options) -> None:
    """Loads the model and serves it until SIGINT or SIGTERM; prints `ready URL` on stdout when it answers.

    Raises BadCheckpoint, AddressUnusable; what can be known without reading a model first.
    """
    check_folder(options.model)
    sockets = bound(options.host, options.port, "black box", "--port")
    try:
        from deltaserve.offset_models.demo.blackbox.http.server import serve  # torch and transformers take a while

        serve(options, sockets)
    finally:
        close(sockets)


def check_folder(path: Path) -> None:
    """Whether `path` looks like a model folder. Raises BadCheckpoint."""
    if not (path / "config.json").is_file():
        raise BadCheckpoint(f"There is no model in {path}: give a folder with config.json and safetensors, --model.")

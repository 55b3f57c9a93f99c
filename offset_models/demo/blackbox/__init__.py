"""The embedded black box: a small causal LM behind real HTTP in vLLM's dialect, for demo, tests and benchmarks."""

from offset_models.demo.blackbox.options import Options, parse

__all__ = ["Options", "parse", "run"]


def run(options: Options) -> None:
    """Loads the model and serves it until SIGINT or SIGTERM; prints `ready URL` on stdout when it answers."""
    from offset_models.demo.blackbox.server import serve  # torch and transformers take a while

    serve(options)

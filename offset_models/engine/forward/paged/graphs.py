"""A function over static tensors, captured once as a CUDA graph and replayed."""

from collections.abc import Callable
from typing import Any

import torch


class Graph:
    """`function` as one graph; what it returns is kept alive with the graph. It is run twice: now and when captured."""

    def __init__(self, function: Callable[[], object], stream: torch.cuda.Stream, pool: Any) -> None:
        self._graph = torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()  # kernels are compiled and workspaces taken before the capture
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")  # others may load a version
            try:
                self.alive = function()
            finally:
                self._graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self) -> None:
        self._graph.replay()

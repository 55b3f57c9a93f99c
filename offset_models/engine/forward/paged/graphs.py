"""A function over tensors that stay where they are, captured as CUDA graphs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Graph:
    """One capture, and what it reads beside the function's own tensors."""

    replayed: torch.cuda.CUDAGraph
    alive: object


class Graphs:
    """Graphs of `function`, one for every number that it is called with; captured when first asked for.

    They share one pool of memory, so only one may run at a time, and what they leave there is void after the next.
    """

    def __init__(self, function: Callable[[int], object], device: torch.device) -> None:
        self._function = function
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, Graph] = {}

    def __len__(self) -> int:
        return len(self._graphs)

    def clear(self) -> None:
        self._graphs.clear()
        self._pool = torch.cuda.graph_pool_handle()  # one whose graphs have all gone takes no more

    def replay(self, number: int) -> None:
        """Run `function(number)` on the device, without waiting for it."""
        self.graph(number).replayed.replay()

    def graph(self, number: int) -> Graph:
        graph = self._graphs.get(number)
        if graph is None:
            graph = self._graphs[number] = self._capture(number)
        return graph

    def _capture(self, number: int) -> Graph:
        graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._function(number)  # kernels are compiled and workspaces taken before the capture
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")  # another thread may load a model
            try:
                alive = self._function(number)
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._stream)
        return Graph(graph, alive)

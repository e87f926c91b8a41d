"""Tracing: a network's forward passes written down as graphs (torch.fx), and the network cut at one of their nodes.

torch.fx puts its own functions in the place of `nn.Module.__call__` and `__getattr__` while it traces, for the whole
process. torchvision's create_feature_extractor takes whatever comes through them for a part of the network that it
follows, so another model that works in another thread at that time fails. The tracer here lets other threads pass.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torchvision.models.feature_extraction import DualGraphModule, NodePathTracer

# Two traces at once would each take the other's functions for those of torch.
_tracing = threading.Lock()

# As create_feature_extractor has it: these are called, not looked into.
_OPERATIONS = [
    each for each in vars(torchvision.ops).values() if isinstance(each, type) and issubclass(each, nn.Module)
]


class Tracer(NodePathTracer):  # type: ignore[misc]  # torchvision publishes no types
    """Follows the calls of one thread, and names nodes as torchvision's documents say."""

    def __init__(self, leaf_modules: Iterable[type[nn.Module]] = ()) -> None:
        """`leaf_modules` are called, not looked into, as all of torch.nn is."""
        super().__init__(leaf_modules=[*_OPERATIONS, *leaf_modules], autowrap_modules=(math, torchvision.ops))
        self._thread = threading.get_ident()

    # What passes through these three is any module's business, hence `Any`.
    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """As the parent, for the thread that traces."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        """As the parent, for the thread that traces."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


@dataclass(frozen=True)
class _Trace:
    """One forward pass: its graph, and the nodes in their order under torchvision's names for them."""

    graph: Graph
    nodes: dict[str, Node]


class Traced:
    """A network with its forward passes, in training and in evaluation mode."""

    def __init__(self, network: nn.Module, leaf_modules: Iterable[type[nn.Module]]) -> None:
        """Trace `network`, which stays as it is."""
        self._network = network
        training = network.training
        self._train = _trace(network.train(), leaf_modules)
        self._evaluation = _trace(network.eval(), leaf_modules)
        network.train(training)

    @property
    def names(self) -> list[str]:
        """The names of the nodes in evaluation mode."""
        return list(self._evaluation.nodes)

    @torch.no_grad()
    def shapes(self, images: Tensor) -> dict[str, tuple[int, ...]]:
        """The shapes of those nodes whose output is a tensor, for `images` (N, 3, H, W) in evaluation mode."""
        recorder = _Recorder(GraphModule(self._network, self._evaluation.graph))
        recorder.run(images)
        return {name: recorder.shapes[node] for name, node in self._evaluation.nodes.items() if node in recorder.shapes}

    def cut(self, name: str, output: str) -> GraphModule:
        """The network up to the node `name`, or up to the last one inside a module of that name; call it only once.

        It gives a dictionary with that node's output under the name `output`. Of the modules, it holds those that it
        needs, and they are those of the network.

        Raises:
            KeyError: no such node.
        """
        for trace in (self._train, self._evaluation):
            _end_at(trace, name, output, self._network)
        graphs = self._train.graph, self._evaluation.graph
        cut: GraphModule = DualGraphModule(self._network, *graphs, class_name=type(self._network).__name__)
        cut.train(self._network.training)
        return cut


class _Recorder(Interpreter):
    """Runs a graph and notes the shapes of the tensors that come by."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[Node, tuple[int, ...]] = {}

    def run_node(self, n: Node) -> Any:  # whatever a node gives
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _trace(network: nn.Module, leaf_modules: Iterable[type[nn.Module]]) -> _Trace:
    with _tracing:
        tracer = Tracer(leaf_modules)
        graph = tracer.trace(network)
    return _Trace(graph, {name: node for node, name in tracer.node_to_qualname.items()})


def _end_at(trace: _Trace, name: str, output: str, network: nn.Module) -> None:
    """Let the graph of `trace` give that node only, and drop what only later nodes needed."""
    inside = [node for each, node in trace.nodes.items() if each == name or each.startswith(f"{name}.")]
    if not inside:
        raise KeyError(name)
    graph = trace.graph
    (old,) = (node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(old):
        graph.output({output: inside[-1]})
    graph.erase_node(old)
    graph.owning_module = GraphModule(network, graph)  # which the next step asks what a module does
    graph.eliminate_dead_code()

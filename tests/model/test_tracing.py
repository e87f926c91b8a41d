"""Tracing: the cut network is torchvision's own, and other models work on while a network is traced."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from captioner.model.configuration import EncoderConfiguration
from captioner.model.encoder import Encoder
from captioner.model.tracing import Traced


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("squeezenet1_1", "features.5"),
        ("resnet18", "layer2"),
        ("densenet121", "features.denseblock1"),
        ("efficientnet_b0", "features.2.1.stochastic_depth"),  # another graph in training
    ],
)
def test_a_cut_is_torchvisions_own(name: str, node: str) -> None:
    network: nn.Module = models.get_model(name, weights=None).eval()
    expected = create_feature_extractor(network, {node: "grid"}, suppress_diff_warning=True)
    traced = Traced(network, leaf_modules=[])
    assert traced.names == get_graph_node_names(network, suppress_diff_warning=True)[1]
    cut = traced.cut(node, "grid")
    assert list(cut.state_dict()) == list(expected.state_dict())
    for mode in (True, False):
        assert cut.train(mode).code == expected.train(mode).code


def test_shapes_are_those_of_the_outputs() -> None:
    network: nn.Module = models.get_model("squeezenet1_1", weights=None).eval()
    traced = Traced(network, leaf_modules=[])
    images = torch.zeros(2, 3, 64, 64)
    shapes = traced.shapes(images)
    names = ["features.0", "features.3.cat", "classifier", "flatten"]
    outputs = create_feature_extractor(network, names, suppress_diff_warning=True)(images)
    last = {"classifier": "classifier.3"}  # a module's name stands for its last node
    assert {name: shapes[last.get(name, name)] for name in names} == {
        name: tuple(output.shape) for name, output in outputs.items()
    }


def test_a_network_is_left_as_it_was() -> None:
    network: nn.Module = models.get_model("squeezenet1_1", weights=None)
    for mode in (True, False):
        network.train(mode)
        assert Traced(network, leaf_modules=[]).cut("features.3", "grid").training is mode
        assert network.training is mode
    assert len(list(network.children())) == 2
    with pytest.raises(KeyError):
        Traced(network, leaf_modules=[]).cut("features.99", "grid")


def test_other_models_work_while_one_is_traced() -> None:
    """They fail, now and then or always, if what torch.fx puts in the place of their calls takes them for its own."""
    torch.manual_seed(0)
    # Many small calls: each of them may meet the trace.
    network = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(30))).eval()
    encoder = Encoder(EncoderConfiguration(name="squeezenet1_1", cut="features.3")).eval()
    given, images = torch.randn(2, 4), torch.randn(1, 3, 32, 32)
    names = ["mobilenet_v2", "resnet18", "densenet121"]
    alone = [Encoder(EncoderConfiguration(name=name)).network.code for name in names]
    over = threading.Event()
    rounds = [0, 0]
    failures: list[BaseException] = []

    @torch.inference_mode()
    def work(number: int, model: nn.Module, inputs: torch.Tensor) -> None:
        try:
            expected = model(inputs).clone()
            while not over.is_set():
                assert torch.equal(model(inputs), expected)
                rounds[number] += 1
        except BaseException as error:
            failures.append(error)
            raise

    working = [
        threading.Thread(target=work, args=(number, *pair))
        for number, pair in enumerate([(network, given), (encoder, images)])
    ]
    for thread in working:
        thread.start()
    try:
        traced = [Encoder(EncoderConfiguration(name=name)).network.code for name in names]
    finally:
        before = list(rounds)
        over.set()
        for thread in working:
            thread.join(20)
    assert failures == []
    assert min(before) > 3
    assert traced == alone


def test_two_networks_can_be_traced_at_once() -> None:
    names = ["mobilenet_v2", "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5"]
    alone = [Encoder(EncoderConfiguration(name=name)).network.code for name in names]
    together: dict[str, str] = {}

    def build(name: str) -> None:
        together[name] = Encoder(EncoderConfiguration(name=name)).network.code

    threads = [threading.Thread(target=build, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [together[name] for name in names] == alone

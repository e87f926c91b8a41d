"""Batch normalisations and the convolutions before them, which in evaluation mode are one linear operation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: GraphModule) -> GraphModule:
    """A network without the batch normalisations that follow a convolution; changes the modules of `network`.

    It is exact up to rounding, in evaluation mode.
    """
    network.eval()
    network = GraphModule(network, network.graph)  # without torchvision's second graph, the one for training
    for conv_name, norm_name, node in list(_pairs(network)):
        network.set_submodule(conv_name, fuse_conv_bn_eval(_conv(network, conv_name), _norm(network, norm_name)))
        if node is None:
            network.set_submodule(norm_name, nn.Identity())
        else:
            node.replace_all_uses_with(node.all_input_nodes[0])
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


@torch.no_grad()
def absorb_batch_norms(network: GraphModule) -> None:
    """Move the scale of each batch normalisation into the convolution before it, and its shift into its own bias.

    The network keeps its modules and, up to rounding, its outputs. What is left of a normalisation only adds a number:
    folding it later multiplies by one. So weights that are rounded to float16 after this stay exact in float16 when
    they are folded, and a float16 engine computes with the very weights of a float32 one.
    """
    for conv_name, norm_name, _ in list(_pairs(network)):
        conv, norm = _conv(network, conv_name), _norm(network, norm_name)
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")  # (C',), and so the next two
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        norm.bias.sub_(mean * scale)
        conv.weight.mul_(scale.reshape(-1, 1, 1, 1))  # weights are (C', C, height, width)
        if conv.bias is not None:
            conv.bias.mul_(scale)
        norm.weight.fill_(1.0)
        mean.fill_(0.0)
        variance.fill_(1.0 - norm.eps)


def _pairs(network: GraphModule) -> Iterator[tuple[str, str, Node | None]]:
    """The names of each convolution and of the normalisation that follows it; its node, if the graph calls it."""
    # Inside the blocks that the graph calls as one, the normalisation is the next member.
    for block_name, block in network.named_modules():
        if isinstance(block, nn.Sequential):
            for (conv_name, conv), (norm_name, norm) in itertools.pairwise(list(block.named_children())):
                if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                    yield f"{block_name}.{conv_name}", f"{block_name}.{norm_name}", None
    # Elsewhere it is the next node of the graph.
    modules = dict(network.named_modules())
    for node in network.graph.nodes:
        if node.op != "call_module" or type(modules[str(node.target)]) is not nn.BatchNorm2d:
            continue
        before = node.all_input_nodes[0]
        if before.op != "call_module" or len(before.users) > 1:
            continue
        if isinstance(modules[str(before.target)], nn.Conv2d):
            yield str(before.target), str(node.target), node


def _conv(network: GraphModule, name: str) -> nn.Conv2d:
    conv = network.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    return conv


def _norm(network: GraphModule, name: str) -> nn.BatchNorm2d:
    norm = network.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    return norm

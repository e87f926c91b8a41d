"""The engine computes what the plain model computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from captioner.errors import ConfigurationError
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.model.engine import TorchEngine, in_chunks

V = 13


def make(name: str, cut: str | None = None, padding: str = "torchvision") -> CaptionModel:
    """A model whose batch statistics are not those of a new one, so that folding them is no identity."""
    torch.manual_seed(0)
    model = CaptionModel(
        EncoderConfiguration(name=name, cut=cut, padding=padding),
        DecoderConfiguration(embedding_size=6, hidden_size=8, attention_size=4),
        vocabulary_size=V,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.2, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize(
    ("name", "cut", "padding"),
    [
        ("resnet18", None, "torchvision"),
        ("resnet18", "layer2", "tensorflow"),
        ("mobilenet_v2", None, "tensorflow"),
        ("shufflenet_v2_x0_5", None, "torchvision"),
        ("densenet121", "features.denseblock1", "torchvision"),  # its normalisations come before the convolutions
        ("squeezenet1_1", None, "torchvision"),
        ("efficientnet_b0", "features.3", "torchvision"),
    ],
)
def test_the_folded_network_equals_the_plain_one(name: str, cut: str | None, padding: str) -> None:
    model, pictures = make(name, cut, padding), images()
    with torch.no_grad():
        expected = model.encoder(pictures)
    engine = TorchEngine(model, precision="float32")
    assert engine.precision == "float32"
    features = engine.encode(pictures)
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(features, expected, atol=1e-4 * max(1.0, scale), rtol=0)


def test_batch_normalisations_are_gone_and_the_model_is_untouched() -> None:
    model = make("resnet18", "layer2")
    before = copy.deepcopy(model.state_dict())
    engine = TorchEngine(model, precision="float32")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in engine._network.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_that_is_in_training_mode_is_run_in_evaluation_mode() -> None:
    model, pictures = make("shufflenet_v2_x0_5", "stage2"), images()
    expected = TorchEngine(model, precision="float32").encode(pictures)
    assert torch.equal(TorchEngine(model.train(), precision="float32").encode(pictures), expected)
    assert model.training
    assert model.encoder.network.training


@pytest.mark.parametrize(("precision", "bound"), [("float16", 1e-5), ("bfloat16", 1e-3)])
def test_half_precision_is_close_and_gives_float32(precision: str, bound: float) -> None:
    model, pictures = make("resnet18", "layer2"), images()
    engine = TorchEngine(model, precision=precision)
    assert engine.precision == precision
    features = engine.encode(pictures)
    assert features.dtype == torch.float32
    exact = TorchEngine(model, precision="float32").encode(pictures)
    error = (features - exact).square().mean() / exact.square().mean()
    assert 0 < float(error) < bound


def test_auto_takes_one_of_the_two_that_agree() -> None:
    engine = TorchEngine(make("squeezenet1_1", "features.3"))
    assert engine.precision in ("float32", "float16")
    assert engine.encode(images()).shape == (2, 225, 128)
    assert TorchEngine(make("squeezenet1_1", "features.3"), precision=engine.precision).precision == engine.precision


def test_auto_takes_float32_where_numbers_are_too_large_for_float16() -> None:
    model = make("squeezenet1_1", "features.3")
    convolution = model.encoder.network.get_submodule("features.0")
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    nn.init.constant_(convolution.bias, 1e5)  # float16 ends at 65504
    assert TorchEngine(model).precision == "float32"


def test_its_decoder_is_the_models() -> None:
    model = make("squeezenet1_1", "features.3")
    engine = TorchEngine(model, precision="float32")
    features = engine.encode(images())
    tokens = torch.randint(0, V, (2, 1, 3))
    with torch.no_grad():
        logits, attention = model.decoder(features.clone(), tokens)
    assert attention is not None
    state = engine.initial_state(features)
    for t in range(3):
        log_probabilities, looked, state = engine.step(tokens[:, :, t], state)
        expected = torch.log_softmax(logits[:, :, t], dim=-1)
        torch.testing.assert_close(log_probabilities, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(looked, attention[:, :, t], atol=1e-6, rtol=0)


def test_half_precision_features_are_taken() -> None:
    engine = TorchEngine(make("squeezenet1_1", "features.3"), precision="float32")
    state = engine.initial_state(torch.zeros(2, 4, 128, dtype=torch.float16))
    assert state.hidden.dtype == torch.float32


@pytest.mark.parametrize("device", ["graphics", "meta", "mps", "cuda"])
def test_a_device_that_is_not_there(device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ConfigurationError, match="choose"):
        TorchEngine(make("squeezenet1_1", "features.3"), device=device)


def test_a_precision_that_is_unknown() -> None:
    with pytest.raises(ConfigurationError, match="'float8' is unknown; choose one of auto, float32, float16, bfloat16"):
        TorchEngine(make("squeezenet1_1", "features.3"), precision="float8")


@pytest.mark.parametrize(
    ("number", "size", "room", "found"), [(10, 4, 4, 4), (10, 1024, 3, 2), (10, 8, 1, 1), (1, 8, 1, 8)]
)
def test_chunks_are_halved_until_the_memory_is_enough(number: int, size: int, room: int, found: int) -> None:
    def double(chunk: Tensor) -> Tensor:
        if len(chunk) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 2 * chunk

    inputs = torch.arange(float(number)).reshape(number, 1)
    outputs, enough = in_chunks(double, inputs, size)
    assert torch.equal(outputs, 2 * inputs)
    assert enough == found


def test_one_picture_that_is_too_much_is_an_error() -> None:
    def refuse(chunk: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        in_chunks(refuse, torch.zeros(5, 1), 4)


def test_auto_finds_a_device() -> None:
    engine = TorchEngine(make("squeezenet1_1", "features.3"), device="auto", precision="float32")
    assert engine.device.type == ("cuda" if torch.cuda.is_available() else "cpu")

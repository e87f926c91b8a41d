"""The encoder is torchvision's own network, cut; its weights come from files that execute nothing."""

from __future__ import annotations

import io
import os
import pickle
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from captioner.errors import ConfigurationError
from captioner.model.configuration import EncoderConfiguration
from captioner.model.encoder import Encoder, SamePaddedConv2d, SamePaddedMaxPool2d, classification_networks

SHARED = Path(__file__).parents[3] / "shared" / "weights" / "mobilenet_v2-tensorflow-qat.safetensors"
QUICK = "squeezenet1_1"


def network(name: str) -> nn.Module:
    """torchvision's whole network with random weights and random batch statistics."""
    torch.manual_seed(0)
    whole: nn.Module = models.get_model(name, weights=None).eval()
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.1, 0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    return whole


def layer4(whole: nn.Module, images: Tensor) -> Tensor:
    """A ResNet up to its last grid, by its own parts."""
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        images = whole.get_submodule(name)(images)
    return images


def stages_of_shufflenet(whole: nn.Module, images: Tensor) -> Tensor:
    for name in ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"):
        images = whole.get_submodule(name)(images)
    return images


def last_grid(name: str, whole: nn.Module, images: Tensor) -> Tensor:
    if name.startswith("resnet"):
        return layer4(whole, images)
    if name.startswith("shufflenet"):
        return stages_of_shufflenet(whole, images)
    grid: Tensor = whole.get_submodule("layers" if name.startswith("mnasnet") else "features")(images)
    return F.relu(grid) if name.startswith("densenet") else grid


@pytest.mark.parametrize(
    "name",
    (
        "mobilenet_v2 resnet50 efficientnet_b0 resnet18 squeezenet1_1 shufflenet_v2_x0_5 mobilenet_v3_small mnasnet0_5 "
        "alexnet densenet121"
    ).split(),
)
def test_the_grid_is_torchvisions_own(name: str, tmp_path: Path) -> None:
    whole = network(name)
    file = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), file)
    encoder = Encoder(EncoderConfiguration(name=name)).eval()
    encoder.load_weights(file)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = last_grid(name, whole, images)
        grid = encoder.grid(images)
        features = encoder(images)
    assert torch.equal(grid, expected)
    assert encoder.channels == expected.shape[1]
    assert features.shape == (2, expected.shape[2] * expected.shape[3], expected.shape[1])
    columns = expected.shape[3]
    assert torch.equal(features[1, columns + 1], expected[1, :, 1, 1])  # row by row
    assert torch.equal(features[1, 1], expected[1, :, 0, 1])


def test_a_cut_gives_an_earlier_grid() -> None:
    encoder = Encoder(EncoderConfiguration(name="resnet18", cut="layer2")).eval()
    assert encoder.channels == 128
    assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 128)
    assert not any(name.startswith(("layer3", "fc")) for name, _ in encoder.network.named_parameters())


def test_a_name_that_is_no_cnn_of_torchvision() -> None:
    for name in ("resnet5000", "vit_b_16", "maskrcnn_resnet50_fpn"):
        with pytest.raises(ConfigurationError, match=f"'{name}' is not"):
            Encoder(EncoderConfiguration(name=name))


@pytest.mark.parametrize("cut", ["layer9", "layer", "flatten", "fc"])
def test_a_cut_that_gives_no_grid(cut: str) -> None:
    with pytest.raises(ConfigurationError, match=f"resnet18 .*'{cut}'"):
        Encoder(EncoderConfiguration(name="resnet18", cut=cut))


def test_a_cut_at_a_node_that_gives_several_tensors() -> None:
    with pytest.raises(ConfigurationError, match="gives no grid"):
        Encoder(EncoderConfiguration(name="shufflenet_v2_x0_5", cut="stage2.1.chunk"))


def test_the_networks_that_are_offered() -> None:
    names = classification_networks()
    assert {"mobilenet_v2", "resnet50", "efficientnet_b0", "vgg16", "convnext_tiny", "inception_v3"} <= set(names)
    assert not any(name.startswith(("vit", "swin", "maxvit", "quantized", "fcn", "r3d")) for name in names)


def test_inception_normalises_its_pictures_as_torchvisions_weights_need_it() -> None:
    encoder = Encoder(EncoderConfiguration(name="inception_v3", cut="Conv2d_1a_3x3")).eval()
    images = torch.randn(1, 3, 75, 75)
    mean, std = (torch.tensor(v)[None, :, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = encoder.network.get_submodule("Conv2d_1a_3x3")
    with torch.no_grad():
        by_hand = nn.Sequential(*expected.children())((images * std + mean - 0.5) / 0.5)
        torch.testing.assert_close(encoder.grid(images), F.relu(by_hand), atol=1e-5, rtol=1e-5)


# --- TensorFlow's padding


@pytest.mark.parametrize("size", [7, 8, 9, 10, (9, 12)])
@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [(3, 2, 1), (3, 2, 4), (5, 2, 1), (7, 2, 2), (2, 2, 1), (3, 3, 1)]
)
def test_same_padding_puts_the_odd_row_at_the_bottom_right(
    size: int | tuple[int, int], kernel: int, stride: int, groups: int
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    convolution = nn.Conv2d(4, 8, kernel, stride=stride, padding=kernel // 2, groups=groups)
    images = torch.randn(2, 4, height, width)
    # https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2, written for one side at a time
    sides = []
    for length in (width, height):  # F.pad begins with the last dimension
        rest = length % stride
        total = max(kernel - stride, 0) if rest == 0 else max(kernel - rest, 0)
        sides += [total // 2, total - total // 2]
    expected = F.conv2d(F.pad(images, sides), convolution.weight, convolution.bias, stride, groups=groups)
    result = SamePaddedConv2d.like(convolution)(images)
    assert result.shape[2:] == (-(-height // stride), -(-width // stride))
    torch.testing.assert_close(result, expected)


def test_an_even_picture_is_padded_as_the_weights_publisher_says() -> None:
    convolution = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
    images = torch.randn(1, 3, 224, 224)
    expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), convolution.weight, stride=2)
    torch.testing.assert_close(SamePaddedConv2d.like(convolution)(images), expected)


def test_only_strided_convolutions_are_swapped() -> None:
    encoder = Encoder(EncoderConfiguration(name="resnet18", padding="tensorflow"))
    swapped = {name for name, module in encoder.network.named_modules() if isinstance(module, SamePaddedConv2d)}
    assert swapped == {"conv1", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"}  # downsampling ones are 1 x 1
    names = set(Encoder(EncoderConfiguration(name="resnet18")).state_dict())
    assert set(encoder.state_dict()) == names


@pytest.mark.parametrize("size", [7, 8])
def test_a_padded_pool_is_padded_at_the_bottom_right_too(size: int) -> None:
    pool = SamePaddedMaxPool2d.like(nn.MaxPool2d(3, stride=2, padding=1))
    images = -1 - torch.rand(1, 2, size, size)  # negative, so that zeros would win
    sides = (0, 1, 0, 1) if size % 2 == 0 else (1, 1, 1, 1)
    assert torch.equal(pool(images), F.max_pool2d(F.pad(images, sides, value=-9.0), 3, stride=2))
    encoder = Encoder(EncoderConfiguration(name="resnet18", cut="layer1", padding="tensorflow"))
    assert isinstance(encoder.network.get_submodule("maxpool"), SamePaddedMaxPool2d)


def test_what_torchvision_does_not_pad_stays_so() -> None:
    encoder = Encoder(EncoderConfiguration(name=QUICK, padding="tensorflow"))  # strides, but no padding with them
    assert not any(isinstance(module, SamePaddedConv2d | SamePaddedMaxPool2d) for module in encoder.network.modules())


# --- weights


def state_of(encoder: Encoder) -> dict[str, Tensor]:
    return {name: torch.randn_like(value) for name, value in encoder.network.state_dict().items()}


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(EncoderConfiguration(name=QUICK, cut="features.3"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_from_a_file(encoder: Encoder, tmp_path: Path, suffix: str) -> None:
    state = state_of(encoder)
    file = tmp_path / f"weights{suffix}"
    extra = {**state, "classifier.1.weight": torch.zeros(3)}  # what lies behind the cut is not used
    if suffix == ".safetensors":
        save_file(extra, file)
    else:
        torch.save(extra, file)
    encoder.load_weights(str(file))
    assert all(torch.equal(value, state[name]) for name, value in encoder.network.state_dict().items())


def test_weights_that_are_missing(encoder: Encoder, tmp_path: Path) -> None:
    for name in ("gone.safetensors", "gone.pt"):
        with pytest.raises(ConfigurationError, match=f"{name} do not exist"):
            encoder.load_weights(tmp_path / name)
    with pytest.raises(ConfigurationError, match="do not exist"):
        encoder.load_weights(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch's word on the garbage
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_garbage_is_one_sentence(encoder: Encoder, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    whole = io.BytesIO()
    torch.save(state_of(encoder), whole)
    old = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, old, _use_new_zipfile_serialization=False)
    chance = random.Random(0)
    contents = [b"", b"hello world", b"PK\x03\x04" + bytes(50), b"\x80\x02", b"\x80\x04K\x01.", chance.randbytes(500)]
    contents += [old.getvalue()[:length] for length in (10, 28, 60, 154)] + [whole.getvalue()[:1000]]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"cannot be read|no plain state") as caught:
            encoder.load_weights(file)
        assert "\n" not in str(caught.value)
        assert str(file) in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch's advice to load with pickles is bad advice


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """torchvision's folder of downloads, empty, on a machine that reaches nobody."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    nobody = urllib.request.ProxyHandler({"https": "http://127.0.0.1:9"})  # the port that discards
    urllib.request.install_opener(urllib.request.build_opener(nobody))
    yield tmp_path / "hub" / "checkpoints"
    urllib.request.install_opener(urllib.request.build_opener())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_download_that_fails_or_is_damaged_is_one_sentence(encoder: Encoder, no_network: Path) -> None:
    expected = rf"the weights of {QUICK} from https://.* cannot be used \(.*\); try again.*{no_network}"
    with pytest.raises(ConfigurationError, match=expected):
        encoder.load_weights("DEFAULT")
    (no_network / models.get_model_weights(QUICK)["DEFAULT"].url.rpartition("/")[2]).write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match=expected):
        encoder.load_weights("DEFAULT")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_is_not_executed(encoder: Encoder, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    plain, by_torch = tmp_path / "plain.pt", tmp_path / "torch.pt"
    plain.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    torch.save({"features.0.weight": Payload(marker)}, by_torch)
    for file in (plain, by_torch):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            encoder.load_weights(file)
    assert not marker.exists()


def test_a_file_that_holds_no_state_dictionary(encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    for content in ([torch.zeros(3)], {"state_dict": {"a": torch.zeros(3)}}, torch.zeros(3)):
        torch.save(content, file)
        with pytest.raises(ConfigurationError, match="no plain state dictionary"):
            encoder.load_weights(file)


def test_weights_that_do_not_fit_change_nothing(encoder: Encoder, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    file = tmp_path / "weights.safetensors"
    state = state_of(encoder)
    save_file({name: value for name, value in state.items() if name != "features.3.squeeze.bias"}, file)
    with pytest.raises(ConfigurationError, match=r"has no 'features\.3\.squeeze\.bias'"):
        encoder.load_weights(file)
    save_file({**state, "features.0.weight": torch.zeros(64, 3, 5, 5)}, file)
    with pytest.raises(ConfigurationError, match=r"'features\.0\.weight' is \(64, 3, 5, 5\), .*\(64, 3, 3, 3\)"):
        encoder.load_weights(file)
    assert all(torch.equal(value, before[name]) for name, value in encoder.network.state_dict().items())


@pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared/weights, which only the project's machines have")
def test_the_published_tensorflow_weights_load() -> None:
    encoder = Encoder(EncoderConfiguration(name="mobilenet_v2", padding="tensorflow")).eval()
    encoder.load_weights(SHARED)
    whole = models.mobilenet_v2().eval()
    from safetensors.torch import load_file

    whole.load_state_dict(load_file(SHARED))
    for module in list(whole.modules()):
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, inputs: F.pad(inputs[0], (0, 1, 0, 1)))
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder.grid(images), whole.features(images), atol=1e-5, rtol=1e-5)


# --- what learns


def learning(encoder: Encoder) -> set[str]:
    return {name.split(".")[0] for name, parameter in encoder.network.named_parameters() if parameter.requires_grad}


def test_stages_are_in_the_order_of_the_picture() -> None:
    encoder = Encoder(EncoderConfiguration(name="resnet18", cut="layer2"))
    assert encoder.stages() == ["conv1", "bn1", "layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    features = Encoder(EncoderConfiguration(name="mobilenet_v2")).stages()
    assert features == [f"features.{i}" for i in range(19)]


def test_train_from_a_stage_on() -> None:
    encoder = Encoder(EncoderConfiguration(name="resnet18", cut="layer3"))
    encoder.train_from("layer2.1")
    frozen = [name for name, parameter in encoder.network.named_parameters() if not parameter.requires_grad]
    assert {name.split(".")[0] for name in frozen} == {"conv1", "bn1", "layer1", "layer2"}
    assert not any(name.startswith("layer2.1") for name in frozen)
    encoder.train_from(None)
    assert learning(encoder) == set()
    encoder.train_from("all")
    assert learning(encoder) == {"conv1", "bn1", "layer1", "layer2", "layer3"}


@pytest.mark.parametrize(
    ("name", "cut", "part", "frozen", "stages"),
    [
        ("resnet18", "layer3", "layer3", ["conv1", "bn1", "layer1.0", "layer1.1", "layer2.0", "layer2.1"],
         ["layer3.0", "layer3.1"]),
        ("densenet121", "features.transition1", "features.denseblock1", ["features.conv0", "features.norm0"],
         ["features.denseblock1", "features.transition1"]),
        ("regnet_y_400mf", "trunk_output.block2", "trunk_output.block2", ["stem.0", "stem.1", "trunk_output.block1"],
         ["trunk_output.block2"]),
    ],
)  # fmt: skip
def test_any_module_can_be_the_first_to_learn(
    name: str, cut: str, part: str, frozen: list[str], stages: list[str]
) -> None:
    encoder = Encoder(EncoderConfiguration(name=name, cut=cut))
    assert encoder.stages() == [*frozen, *stages]
    encoder.train_from(part)
    for parameter_name, parameter in encoder.network.named_parameters():
        assert parameter.requires_grad != parameter_name.startswith(tuple(f"{stage}." for stage in frozen))


def test_features_1_is_not_features_14() -> None:
    encoder = Encoder(EncoderConfiguration(name="mobilenet_v2"))
    encoder.train_from("features.14")
    trained = {
        ".".join(name.split(".")[:2])
        for name, parameter in encoder.network.named_parameters()
        if parameter.requires_grad
    }
    assert trained == {f"features.{i}" for i in range(14, 19)}


def test_an_unknown_stage_is_named_with_the_choices(encoder: Encoder) -> None:
    with pytest.raises(ConfigurationError, match=r"no part 'layer4'; choose 'all' or one of features\.0, features\.3"):
        encoder.train_from("layer4")

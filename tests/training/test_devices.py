"""Two processes compute what one does, with the same pictures in a step; nothing is seen twice or left out."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from captioner.bundle import load_bundle
from captioner.errors import ConfigurationError
from captioner.model.configuration import DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.devices import (
    WeightedMean,
    gathered,
    greatest_over_processes,
    lost_contact,
    refuse_disagreement,
    share_of,
    total_over_processes,
)
from captioner.training.losses import CrossEntropyOptions
from captioner.training.self_critical import Drawn, policy_loss
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation
from tests.training.running import FORKS, column, recipe, run_machines, run_process, train

DDP = ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp", "--trainer.precision=32-true"]
EXACT = ["--trainer.precision=32-true", "--model.decoder.dropout=0.0", "--trainer.max_epochs=2"]


def test_two_processes_train_like_one_with_the_same_batch(shapes: Path, tmp_path: Path) -> None:
    # 24 training pictures of captions of different lengths, so that the processes have different numbers of words
    one, two = tmp_path / "one", tmp_path / "two"
    config = recipe(tmp_path, shapes)
    assert train("--config", config, "--output", one, *EXACT, "--data.batch_size=6") == 0
    ended = run_process("--config", config, "--output", two, *EXACT, *DDP, "--data.batch_size=3")
    assert ended.returncode == 0, ended.stderr
    for name in ("train_loss_step", "train_loss_epoch", "val_loss"):
        assert column(two, name) == pytest.approx(column(one, name), abs=2e-5), name
    assert len(column(two, "train_loss_step")) == 8
    for name in ("cider", "bleu4", "distinct"):
        assert column(two, name) == pytest.approx(column(one, name), abs=1e-3), name
    expected = load_bundle(one / "bundle").model.state_dict()
    for name, value in load_bundle(two / "bundle").model.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=1e-2)
    assert ended.stderr.count("written to") == 1  # rank 0 alone writes
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}


def test_two_processes_share_one_cache_and_train_self_critically(finished: Path, shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = recipe(tmp_path, shapes)
    settings = ["--init-from", finished / "bundle", "--model.train_encoder_from=null"]
    objective = '--model.self_critical={"samples": 2, "max_length": 6}'
    ended = run_process("--config", config, "--output", output, *settings, objective, *DDP, "--data.batch_size=4")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("feature cache") == 2  # of train and of dev: each once
    assert len(column(output, "reward_step")) == 3
    random = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)["random"]
    assert len(random) == 2
    assert not torch.equal(random[0]["torch"], random[1]["torch"])  # they do not draw the same captions


def killer(step: int, number: int) -> str:
    """A callback on the command line."""
    settings = {"class_path": "tests.training.killing.SignalAt", "init_args": {"step": step, "number": int(number)}}
    return f"--trainer.callbacks={json.dumps([settings])}"


def test_two_machines_without_a_shared_disk_stop_together_and_are_resumed_with_one_checkpoint(
    shapes: Path, tmp_path: Path
) -> None:
    first, second = (
        [
            *("--config", recipe(tmp_path, shapes), "--data.batch_size=4"),  # three steps
            *("--output", tmp_path / name, "--data.cache", tmp_path / name / "cache"),
        ]
        for name in ("first", "second")
    )
    ended = run_machines(first, [*second, killer(1, signal.SIGTERM)])  # one is asked, both stop
    assert [each.returncode for each in ended] == [143, 143], ended
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert f"stopped: {last} has step" in ended[0].stderr
    assert not (tmp_path / "second" / "checkpoints").exists()
    ended = run_machines([*first, "--resume"], [*second, "--resume"])
    assert [each.returncode for each in ended] == [1, 1], ended
    for each in ended:
        assert "process 0 has the checkpoint of step" in each.stderr
        assert "but process 1 has no checkpoint to go on from: put the same checkpoints folder" in each.stderr
        assert "Traceback" not in each.stderr


def test_a_process_that_is_killed_ends_the_others_with_a_sentence(shapes: Path, tmp_path: Path) -> None:
    command = ["--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", "--data.batch_size=4"]
    ended = run_machines(command, [*command, killer(1, signal.SIGKILL)])
    assert [each.returncode for each in ended] == [1, -signal.SIGKILL], ended
    assert "captioner: this process cannot talk to the others of the training (" in ended[0].stderr
    assert "Traceback" not in ended[0].stderr


def test_other_errors_are_not_taken_for_lost_contact() -> None:
    assert lost_contact(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")) is None
    said = lost_contact(distributed.DistNetworkError("The server socket has failed to listen. More follows."))
    assert said is not None
    assert "(The server socket has failed to listen)" in said


# --- the parts, in two processes


def _work(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        drawn, advantage = _drawn(rank)
        share = share_of((drawn.tokens != Vocabulary.pad).sum())
        loss = policy_loss(drawn, advantage) * share
        loss.backward()  # type: ignore[no-untyped-call]
        losses = WeightedMean()
        losses.add(torch.tensor(float(rank)), weight=1 + 2 * rank)
        found = {
            "loss": loss.item(),
            "gradient": drawn.log_probabilities.grad.tolist() if drawn.log_probabilities.grad is not None else None,
            "mean": WeightedMean.of(gathered(losses)),
            "total": float(total_over_processes(torch.tensor(rank + 1.0))),
            "greatest": greatest_over_processes(torch.tensor([rank, -rank])).tolist(),
            "refusal": _refusal(rank),
            "truncated": _truncated_gradient(*_given(rank)),
        }
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        distributed.destroy_process_group()


def _refusal(rank: int) -> str:
    refuse_disagreement("the same", "nothing to do")
    with pytest.raises(ConfigurationError) as refused:
        refuse_disagreement(f"{rank + 1} pictures", "give both the same")
    return str(refused.value)


def _drawn(rank: int) -> tuple[Drawn, Tensor]:
    """Captions (2, 2, 4) of one process, those of process 1 shorter."""
    generator = torch.Generator().manual_seed(rank)
    tokens = torch.randint(4, 9, (2, 2, 4), generator=generator)
    tokens[:, :, 4 - 2 * rank :] = Vocabulary.pad
    log_probabilities = torch.randn(2, 2, 4, generator=generator) * (tokens != Vocabulary.pad)
    return Drawn(tokens, log_probabilities.requires_grad_()), torch.randn(2, 2, generator=generator)


class _Truncated(nn.Module):
    """The loss of given captions, whose gradient is cut after every second word."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        configuration = DecoderConfiguration(embedding_size=4, hidden_size=5, attention_size=3, dropout=0.0)
        self.decoder = Decoder(configuration, vocabulary_size=9, channels=3).double()

    def forward(self, features: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        forcing = TeacherForcing(options=CrossEntropyOptions(), truncation=Truncation(mode="truncated", steps=2))
        return forcing.loss(self.decoder, features, inputs, targets)


def _given(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The grids (2, 3, 3), inputs and targets (2, 2, 4) of one process."""
    targets = _drawn(rank)[0].tokens
    inputs = torch.cat([torch.full((2, 2, 1), Vocabulary.start), targets[:, :, :-1]], dim=2)
    features = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    return features, inputs, targets


def _truncated_gradient(features: Tensor, inputs: Tensor, targets: Tensor) -> list[float]:
    """Of the decoder's parameters, the mean over all processes as DDP takes it."""
    network = _Truncated()
    parallel = DistributedDataParallel(network) if distributed.is_initialized() else network
    loss = parallel(features, inputs, targets) * share_of((targets != Vocabulary.pad).sum())
    loss.backward()
    gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    values: list[float] = torch.cat(gradients).tolist()
    return values


def test_the_loss_of_drawn_captions_is_that_of_all_processes_together(tmp_path: Path) -> None:
    start_processes(_work, args=(str(tmp_path),), nprocs=2, start_method=FORKS.get_start_method())  # type: ignore[no-untyped-call]
    found: list[dict[str, Any]] = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    (first, its), (second, others) = _drawn(0), _drawn(1)
    probabilities = torch.cat([first.log_probabilities, second.log_probabilities]).detach().requires_grad_()
    loss = policy_loss(Drawn(torch.cat([first.tokens, second.tokens]), probabilities), torch.cat([its, others]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert probabilities.grad is not None
    assert math.isclose(sum(each["loss"] for each in found) / 2, loss.item(), rel_tol=1e-5)
    gradient = torch.cat([torch.tensor(each["gradient"]) for each in found]) / 2  # as DDP averages
    torch.testing.assert_close(gradient, probabilities.grad)
    assert [each["mean"] for each in found] == [0.75, 0.75]
    assert [each["total"] for each in found] == [3.0, 3.0]
    assert [each["greatest"] for each in found] == [[1, 0], [1, 0]]
    assert {each["refusal"] for each in found} == {
        "process 0 has 1 pictures, but process 1 has 2 pictures: give both the same"
    }
    # and the loss of given captions, cut on its way back through time
    together = [torch.cat(parts) for parts in zip(_given(0), _given(1), strict=True)]
    expected = _truncated_gradient(together[0], together[1], together[2])
    assert any(expected)
    for each in found:
        assert each["truncated"] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_one_process_has_the_whole_share() -> None:
    assert float(share_of(torch.tensor(7))) == 1.0
    assert gathered("mine") == ["mine"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_gpu_trains_in_mixed_precision(precision: str, shapes: Path, tmp_path: Path) -> None:
    config = recipe(tmp_path, shapes)
    gpu = ["--trainer.accelerator=gpu", "--trainer.devices=1", f"--trainer.precision={precision}"]
    assert train("--config", config, "--output", tmp_path / "run", *gpu) == 0
    assert all(math.isfinite(loss) for loss in column(tmp_path / "run", "train_loss_step"))

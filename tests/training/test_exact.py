"""The fast forms change nothing of what a row learns, never wait for the device, and make no one-hot labels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from effiseg.base.config import Config
from effiseg.base.objective import LossWeights
from effiseg.base.schema import Norms
from effiseg.data.prepared import Prepared, Split
from effiseg.losses.terms import LOSSES, Setting, Signals
from effiseg.models import segformer
from effiseg.models.draws import Draws
from effiseg.models.outputs import Outputs
from effiseg.models.segformer import Segmenter, build_model
from effiseg.training import trainer
from effiseg.training.task import Task
from tests.settings import CITYSCAPES
from tests.training.plain import PlainTask, compute_in_float64

WIDTHS = {
    "b0": {"hidden_sizes": [4, 8, 10, 16], "depths": [1, 2, 1, 1], "decoder_hidden_size": 12},
    "b2": {"hidden_sizes": [6, 8, 15, 16], "depths": [2, 1, 1, 1], "decoder_hidden_size": 10},
}
STEPS = 6

Batch = tuple[Tensor, Tensor]
Build = Callable[..., tuple[Task, Segmenter]]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config]) -> Build:
    """Builds the task of a row with narrow networks, in train mode, and its teacher as it was trained."""
    for variant, widths in WIDTHS.items():
        monkeypatch.setitem(segformer.VARIANTS, variant, widths)

    def make(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Task, Segmenter]:
        config = make_config(**changes)
        row = config.row(name)
        student, teacher = (
            build_model(model, CITYSCAPES.classes).to(dtype) for model in (row.model, config.row("teacher").model)
        )
        with torch.no_grad():  # biases of 0 and statistics of nothing would hide a mistake
            for parameter in (*student.parameters(), *teacher.parameters()):
                parameter.add_(0.1 * torch.randn_like(parameter))
            statistics = teacher.eval().network.decode_head.batch_norm
            statistics.running_mean.normal_()
            statistics.running_var.uniform_(0.5, 2)
        task = Task(student, teacher, row, [1.0, 2.0, *[5.0] * 17]).train()
        task.terms.to(dtype)
        if dtype == torch.float64:
            for term in task.terms.values():
                compute_in_float64(term)
        return task, teacher

    return make


# --- what a row learns ------------------------------------------------------------------------------------------------


def learn(task: nn.Module, images: Tensor, labels: Tensor, draws: list[Draws]) -> dict[str, Tensor]:
    """A step for each of the draws, as the trainer takes it; the state after them."""
    groups = [
        {"params": [p for p in task.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in task.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # some gradients are nothing but rounding (see `is_cancelled`); unless eps is well above them, Adam makes full steps
    optimizer = torch.optim.AdamW(groups, lr=0.01, eps=1e-3, fused=True)
    for each in draws:
        optimizer.zero_grad()
        task(images, labels, each)["loss"].backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    return task.state_dict()


def is_cancelled(name: str) -> bool:
    """Constants added to whole channels before the head's batch norm, or to all keys before the softmax, cancel."""
    return name.endswith((".k_proj.bias", ".stages.3.layer_norm.bias")) or (
        ".linear_projections." in name and name.endswith(".bias")
    )


ROWS = [
    ("baseline", {}),
    ("tanh_linear", {}),
    ("dice_focal", {}),
    ("kd", {"kl": 1.0, "cskd": 1.0, "pekd": 1.0}),
    ("combined", {"kl": 1.0}),
]


@pytest.mark.parametrize(("name", "weights"), ROWS)
def test_a_row_learns_what_plain_networks_would(build: Build, batch: Batch, name: str, weights: dict[str, float]):
    task, teacher = build(name, torch.float64, loss={"weights": weights})
    plain = PlainTask(task, teacher)
    before = {key: value.clone() for key, value in task.state_dict().items()}
    draws = [task.draw([2 * step, 2 * step + 1], torch.device("cpu")) for step in range(STEPS)]
    ours, expected = learn(task, *batch, draws), learn(plain, *batch, draws)
    assert ours.keys() == expected.keys()
    moved = {key: (value - before[key]).abs().max().item() for key, value in expected.items()}
    largest = max(moved[key] for key, value in expected.items() if value.is_floating_point())
    for key, value in expected.items():
        assert is_cancelled(key) or moved[key] > 0, key
        scale = largest if is_cancelled(key) else moved[key]
        rounding = 4 * torch.finfo(torch.float64).eps * value.abs().max()  # what a weight cannot move by less than
        assert (ours[key] - value).abs().max() <= 1e-11 * scale + rounding, key


@pytest.mark.parametrize(("name", "weights"), ROWS)
def test_in_float32_a_row_is_as_close_to_it_as_plain_networks(
    build: Build, batch: Batch, name: str, weights: dict[str, float]
):
    task, teacher = build(name, loss={"weights": weights})
    plain, exact = PlainTask(task, teacher), PlainTask(task, teacher).in_float64()
    before = {key: value.clone() for key, value in task.state_dict().items()}
    draws = [task.draw([2 * step, 2 * step + 1], torch.device("cpu")) for step in range(STEPS)]
    ours, theirs, expected = (learn(each, *batch, draws) for each in (task, plain, exact))

    def farthest(found: dict[str, Tensor]) -> float:
        keys = [key for key, value in expected.items() if value.is_floating_point() and not is_cancelled(key)]
        moves = [(expected[key] - before[key]).abs().max() for key in keys]
        return max(
            (found[key] - expected[key]).abs().max() / move for key, move in zip(keys, moves, strict=True)
        ).item()

    assert 0 < farthest(ours) <= 2 * farthest(theirs) < 1e-3


# --- waiting and memory -----------------------------------------------------------------------------------------------

# the host needs their result, or its size
READS = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "one_hot",
    "_unique2", "unique_dim", "unique_consecutive",
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Notes the operations that make the host wait for a GPU, and the size and type of all memory that is used."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.elements: list[tuple[int, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        indices = args[1] if "index" in name and isinstance(args[1], list | tuple) else ()
        masked = any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)
        if name in READS or masked:
            self.reads.append(name)
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements += [(t.untyped_storage().nbytes() // t.itemsize, t.dtype) for t in tensors]
        return result


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put_([x > 0], x.sum()),
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: x.long().bincount(),
        lambda x: F.one_hot(x.long()),
    ],
)
@pytest.mark.parametrize("inference", [False, True], ids=["normal", "inference"])
def test_the_recorder_notes_reads(read: Callable[[Tensor], object], inference: bool):
    x = torch.arange(5.0)
    with torch.inference_mode(inference), Recorder() as recorder:
        read(x)
    assert recorder.reads


@pytest.fixture
def rows(shipped: Config) -> list[tuple[str, dict[str, Any]]]:
    """The default study's rows, and one of every term, zoomed out, and with the norm that they leave out."""
    every_term = {"weights": dict.fromkeys(LossWeights.model_fields, 1.0)}
    others = {
        "model": {"norms": dict.fromkeys(Norms.model_fields, "derf")},
        "train": {"augment": {"scale": [0.5, 2.0]}},
    }
    return [*((name, {}) for name, _ in shipped.runs()), ("baseline", {"loss": every_term, **others})]


def test_no_step_of_a_row_waits_for_the_device(rows: list, build: Build, batch: Batch):
    for name, changes in rows:
        task, _ = build(name, **changes)
        with Recorder() as recorder:
            task(*batch)["loss"].backward()
        assert recorder.reads == [], name


class Untouched(nn.Module):
    def forward(self, images: Tensor, labels: Tensor, _draws: Tensor) -> Batch:
        return images.float(), labels

    def inside(self, size: Sequence[int], draws: Tensor) -> Tensor:
        return draws.new_empty(len(draws), 1, *size).bool()


def test_no_step_reads_a_value_once_its_images_are_augmented(rows: list, build: Build, batch: Batch):
    images, labels = (each.to("meta") for each in batch)  # has no values: reading one is an error
    for name, changes in rows:
        task, _ = build(name, **changes)
        draws = Draws(*(each.to("meta") for each in task.draw([1, 2], torch.device("cpu"))))
        task.augmentation = Untouched()  # autocast, which it switches off, knows no such device
        task.to("meta")(images, labels, draws)["loss"].backward()


@pytest.mark.parametrize("name", ["weighted_ce", "ce", "dice", "focal", "tversky", "focal_tversky"])
def test_a_supervised_term_makes_nothing_larger_than_the_logits_and_no_one_hot_labels(shipped: Config, name: str):
    logits = torch.randn(2, 19, 16, 32, requires_grad=True)
    labels = torch.randint(19, (2, 16, 32), dtype=torch.uint8)
    labels[:, :2] = 255
    term = LOSSES[name](shipped.loss, Setting(torch.ones(19), [], []))
    with Recorder() as recorder:
        term(Signals(logits, labels, Outputs(), Outputs())).backward()
    assert max(elements for elements, _ in recorder.elements) == logits.numel()
    assert {dtype for elements, dtype in recorder.elements if elements == logits.numel()} == {torch.float32}


def test_the_recorder_notes_one_hot_labels():
    with Recorder() as recorder:
        F.one_hot(torch.randint(19, (2, 16, 32)), 19)
    assert (2 * 16 * 32 * 19, torch.int64) in recorder.elements


def test_a_training_reads_no_more_values_when_it_takes_more_steps(
    train: Callable[..., Any], data: Prepared, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trainer, "LOGS_PER_EPOCH", 1)
    counts = []
    for images in (4, 10):  # 2 and 5 steps
        fewer = Split(data.train.images[:images], data.train.labels[:images], data.train.names[:images])
        with Recorder() as recorder:
            run = train(
                data=replace(data, train=fewer),
                train={"epochs": 1, "batch_size": 2},
            )
        assert run.training.steps == images // 2
        counts.append(len(recorder.reads))
    assert counts[0] == counts[1] > 0

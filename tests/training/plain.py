"""Networks and a training step as transformers and PyTorch have them: nothing deployed, nothing in another order."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from effiseg.losses.terms import Signals
from effiseg.models.draws import Draws
from effiseg.models.outputs import Outputs
from effiseg.models.segformer import Segmenter
from effiseg.training.task import Task

FLOAT = Tensor.float


class PlainNetwork(nn.Module):
    """transformers' own network, its head included, with the parameters of a model."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.network)
        head = SegformerDecodeHead(model.network.config).to(model.network.dtype)
        head.load_state_dict(model.network.decode_head.state_dict())
        self.network.decode_head = head
        self.mean, self.std = model.mean, model.std
        self.embeddings: list[Tensor] = []
        for stage in self.network.segformer.stages:
            stage.patch_embeddings.register_forward_hook(lambda _module, _args, found: self.embeddings.append(found[0]))

    def forward(self, images: Tensor) -> Outputs:
        self.embeddings.clear()
        images = images.to(self.network.dtype)
        found = self.network((images - self.mean) / self.std, output_hidden_states=True)
        # laid out as ours are, since the losses sum in float32 and in the order of the memory
        features = [x.contiguous(memory_format=torch.channels_last) for x in found.hidden_states]
        return Outputs(found.logits.contiguous(), features, [x.contiguous() for x in self.embeddings])


def compute_in_float64(term: nn.Module) -> None:
    """By the word with which the losses say in what they are computed."""
    term.register_forward_pre_hook(lambda *_: setattr(Tensor, "float", Tensor.double))
    term.register_forward_hook(lambda *_: setattr(Tensor, "float", FLOAT), always_call=True)


class PlainTask(nn.Module):
    """A task's step by plain networks. Neither drops anything from here on."""

    def __init__(self, task: Task, teacher: Segmenter) -> None:
        super().__init__()
        self.student, self.terms = PlainNetwork(task.student), copy.deepcopy(task.terms)
        self.weights, self.augmentation = task.weights, task.augmentation
        self.teacher = (PlainNetwork(teacher).eval(),)  # no submodule
        drop_nothing(task)
        drop_nothing(self)

    def in_float64(self) -> "PlainTask":
        for term in self.terms.values():
            compute_in_float64(term)
        self.teacher[0].double()
        return self.double()

    def forward(self, images: Tensor, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        images, labels = self.augmentation(images, labels, draws.augment)
        with torch.no_grad():
            teacher = self.teacher[0](images)
        student = self.student(images)
        logits = F.interpolate(student.logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        signals = Signals(logits, labels, student, teacher)
        return {"loss": sum(self.weights[name] * term(signals) for name, term in self.terms.items())}


def drop_nothing(module: nn.Module) -> None:
    """What transformers drops it draws for the whole batch, and ours by the seed of each sample."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if hasattr(layer, "drop_prob"):
            layer.drop_prob = 0.0

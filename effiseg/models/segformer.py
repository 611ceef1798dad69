"""SegFormer with its input normalisation: built from the params, saved and loaded whole."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.models.segformer.modeling_segformer import SegformerLayer
from transformers.utils import logging

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_folder
from effiseg.base.schema import Model
from effiseg.models.draws import Draws, draw_kept, draw_uniform, drop
from effiseg.models.embedding import swap_embeddings
from effiseg.models.head import ExactDecodeHead
from effiseg.models.initial import FIRST_WEIGHTS
from effiseg.models.norms import swap_norms
from effiseg.models.outputs import Outputs
from effiseg.models.products import swap_linears
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import load_strictly, to_transformers
from effiseg.weights.variants import VARIANTS

logging.disable_progress_bar()  # saving one small file needs no bar, least of all inside that of the training

CONFIG_FILE = "config.json"  # of a model folder
LABELS_KEY = "effiseg_labels"  # in it, of a trained model: what its answers mean, and the images that it was trained on


class Segmenter(nn.Module):
    """A SegFormer that takes plain pixels: mean and standard deviation live with the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: SegformerForSemanticSegmentation, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.channels: list[int] = list(network.config.hidden_sizes)  # of the stages, finest first
        # on the 0..255 scale of the pixels
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """RGB pixels 0..255, uint8 or float, (N, 3, H, W) -> logits (N, classes, H/4, W/4)."""
        logits = self.outputs(images).logits
        assert logits is not None
        return logits

    def outputs(self, images: Tensor, draws: Draws | None = None, *, with_logits: bool = True) -> Outputs:
        """One pass with everything that the losses may want; the head is skipped when nobody wants the logits.

        Args:
            draws: what is random in training, see `draw`; torch's global generator decides where it is not given.
        """
        result = Outputs()
        branches = iter(draws.paths.unbind(dim=1) if draws else ())
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)  # as tokens are anyway
        for stage in self.network.segformer.stages:
            tokens, height, width = stage.patch_embeddings(x)
            result.embeddings.append(tokens)
            for block in stage.blocks:
                if draws:
                    tokens = _run_block(block, tokens, height, width, next(branches), next(branches))
                else:
                    tokens = block(tokens, height, width)
            tokens = stage.layer_norm(tokens)
            x = tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
            result.features.append(x)
        if with_logits:
            result.logits = self.network.decode_head(result.features, draws.kept if draws else None)
        return result

    def draw(self, seeds: Sequence[int], size: Sequence[int], augment: int, device: torch.device) -> Draws:
        """All that is random about samples of `size` (H, W), of each sample by its seed; `augment` draws come first."""
        branches = 2 * sum(self.network.config.depths)
        uniform = draw_uniform(seeds, augment + branches, device)
        height, width = (-(-side // 4) for side in size)
        shape = (self.network.config.decoder_hidden_size, height, width)
        kept = draw_kept(seeds, shape, self.network.decode_head.dropout.p, device)
        return Draws(uniform[:, :augment], uniform[:, augment:], kept)


def _run_block(block: SegformerLayer, x: Tensor, height: int, width: int, first: Tensor, second: Tensor) -> Tensor:
    """A block in training, its branches dropped where the samples' uniform draws (N,) are below its rate."""
    rate = getattr(block.drop_path, "drop_prob", 0.0)  # the first block has no such layer

    def branch(output: Tensor, draws: Tensor) -> Tensor:
        return drop(output, draws[:, None, None] >= rate, rate) if rate else output

    attended, _ = block.attention(block.layernorm_before(x), height, width)
    x = branch(attended, first) + x
    return branch(block.mlp(block.layernorm_after(x), height, width), second) + x


def transformers_config(model: Model, classes: Sequence[str]) -> SegformerConfig:
    """The transformers configuration of a model; what transformers does not know stands under `effiseg`."""
    names = dict(enumerate(classes))
    return SegformerConfig(
        **VARIANTS[model.variant],
        id2label=names,
        label2id={name: index for index, name in names.items()},
        effiseg=model.model_dump(),
    )


def build_model(model: Model, classes: Sequence[str]) -> Segmenter:
    """A randomly initialised network (torch's global generator) as `model` describes it."""
    config = transformers_config(model, classes)
    network = SegformerForSemanticSegmentation(config)
    head = ExactDecodeHead(config)
    head.load_state_dict(network.decode_head.state_dict())
    network.decode_head = head
    if model.embedding == "bottleneck":
        swap_embeddings(network)
    swap_norms(network, model.norms, model.alpha_init)
    swap_linears(network)
    FIRST_WEIGHTS[model.draw](network)
    return Segmenter(network, model.mean, model.std)


def save_model(model: Segmenter, folder: Path) -> None:
    """Write config.json and model.safetensors in transformers' format, whole or not at all.

    LayerNorm models open in plain transformers by `SegformerForSemanticSegmentation.from_pretrained(folder)`.
    """
    with whole_folder(folder) as partial:
        model.network.save_pretrained(partial)


def load_model(folder: Path) -> Segmenter:
    """Read what `save_model` wrote; in eval mode.

    Raises:
        EffiSegError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    settings, classes = read_model_config(folder)
    model = build_model(settings, classes)
    tensors = to_transformers(read_tensors(folder / "model.safetensors"), num_labels=len(classes))
    load_strictly(model.network, tensors, origin=str(folder))
    return model.eval()


def read_model_config(folder: Path) -> tuple[Model, list[str]]:
    """The model's settings and class names from its config.json.

    Raises:
        EffiSegError: the file is missing, damaged, or was not written by EffiSeg.
    """
    path = folder / CONFIG_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = content["id2label"]
        # older models do not say what was not a choice then
        settings = {"embedding": "overlap", "draw": "transformers", **content["effiseg"]}
        return Model(**settings), [names[str(index)] for index in range(len(names))]
    except FileNotFoundError:
        raise EffiSegError(f"{path}: not found; expected a model folder that EffiSeg wrote") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise EffiSegError(
            f"{path}: not the configuration of an EffiSeg model ({reason}); train the row again"
        ) from None

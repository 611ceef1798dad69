"""The layouts of names that checkpoints of SegFormer have, and loading that leaves nothing to chance.

Understood are the names transformers uses in memory, the older ones it writes to disk, those of the original
repository, which TransKD and segmentation_models.pytorch share, and of mmsegmentation the encoder: its head has a batch
norm and a ReLU in every projection, so it is another function.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from effiseg.base.errors import EffiSegError
from effiseg.weights.files import listed
from effiseg.weights.reasons import reason

_WRAPPERS = (
    r"(?:(?:module|_orig_mod|student|teacher|ema|model|net|network|segformer|backbone|encoder|decode_head|decoder|head)"
    r"\.)*"
)
_BLOCK, _OLD_BLOCK, _ORIGINAL_BLOCK = "segformer.stages.{i}.blocks.{b}", "block.{i}.{b}", "block{n}.{b}"
_MM_BLOCK = "layers.{i}.1.{b}"
# transformers in memory, then what else it may be called: on disk by transformers, by the original and its kin
# {i} counts stages from 0, {n} from 1, {b} is the block
_LAYOUTS = (
    (
        "segformer.stages.{i}.patch_embeddings.proj",
        "patch_embeddings.{i}.proj",
        "patch_embed{n}.proj",
        "layers.{i}.0.projection",
    ),
    *(
        (f"segformer.stages.{{i}}.patch_embeddings.{own}", f"patch_embeddings.{{i}}.{own}")
        for own in ("proj.reduce", "proj.conv", "proj.expand")  # our bottleneck, which no other layout knows
    ),
    (
        "segformer.stages.{i}.patch_embeddings.layer_norm",
        "patch_embeddings.{i}.layer_norm",
        "patch_embed{n}.norm",
        "layers.{i}.0.norm",
    ),
    *(
        (f"{_BLOCK}.{new}", f"{_OLD_BLOCK}.{old}", f"{_ORIGINAL_BLOCK}.{original}", f"{_MM_BLOCK}.{mm}")
        for new, old, original, mm in (
            ("layernorm_before", "layer_norm_1", "norm1", "norm1"),
            ("attention.q_proj", "attention.self.query", "attn.q", "attn.attn.q"),
            ("attention.k_proj", "attention.self.key", "attn.k", "attn.attn.k"),
            ("attention.v_proj", "attention.self.value", "attn.v", "attn.attn.v"),
            ("attention.sequence_reduction.sequence_reduction", "attention.self.sr", "attn.sr", "attn.sr"),
            ("attention.sequence_reduction.layer_norm", "attention.self.layer_norm", "attn.norm", "attn.norm"),
            ("attention.o_proj", "attention.output.dense", "attn.proj", "attn.attn.out_proj"),
            ("layernorm_after", "layer_norm_2", "norm2", "norm2"),
            ("mlp.fc1", "mlp.dense1", "mlp.fc1", "ffn.layers.0"),
            ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv", "mlp.dwconv.dwconv", "ffn.layers.1"),
            ("mlp.fc2", "mlp.dense2", "mlp.fc2", "ffn.layers.4"),
        )
    ),
    ("segformer.stages.{i}.layer_norm", "layer_norm.{i}", "norm{n}", "layers.{i}.2"),
    ("decode_head.linear_projections.{i}.proj", "linear_c.{i}.proj", "linear_c{n}.proj"),
    ("decode_head.linear_fuse", "linear_fuse", "linear_fuse.conv"),
    ("decode_head.batch_norm", "linear_fuse.norm", "linear_fuse.bn"),
    ("decode_head.classifier", "classifier", "linear_pred"),
)
_FUSED = re.compile(r"(?P<attention>.*\bblock\d+\.\d+\.attn\.)kv(?P<parameter>\.\w+)")
_MM_FUSED = re.compile(r"(?P<attention>.*\blayers\.\d+\.1\.\d+\.attn\.attn\.)in_proj_(?P<parameter>\w+)")
_MM_LINEAR = re.compile(r".*\blayers\.\d+\.1\.\d+\.ffn\.layers\.[04]\.weight")  # a 1x1 convolution there
# mmsegmentation's decode head makes a `conv_seg` that SegFormer never calls; `head` is MiT's ImageNet classifier
_UNUSED = re.compile(_WRAPPERS + r"(?:conv_seg|head)\.(?:weight|bias)")
_CLASSIFIER = ("decode_head.classifier.weight", "decode_head.classifier.bias")


def _compile(source: str) -> re.Pattern[str]:
    pattern = re.escape(source).replace(r"\{i\}", r"(?P<i>[0-3])").replace(r"\{n\}", r"(?P<n>[1-4])")
    return re.compile(_WRAPPERS + pattern.replace(r"\{b\}", r"(?P<b>\d+)") + r"\.(?P<parameter>\w+)")


_KINDS = (
    "transformers' layout",
    "transformers' layout of versions 4, and on disk",
    "the original's layout (also mmsegmentation 0.x, TransKD, segmentation_models.pytorch)",
    "mmsegmentation's layout",
)
# the first word of a target is itself a wrapper, so that it may be missing or stand behind others
_TARGETS = tuple(
    (_compile(source), target, kind)
    for target, *others in _LAYOUTS
    for source, kind in zip((target.split(".", 1)[1], *others), _KINDS, strict=False)
)


def layout_of(tensors: Mapping[str, Tensor]) -> str:
    """Whose names a checkpoint's tensors have; empty where none is known."""
    counts: Counter[str] = Counter()
    for name, _ in _parted(tensors.items()):
        if found := next((kind for pattern, _, kind in _TARGETS if pattern.fullmatch(name)), None):
            counts[found] += 1
    return counts.most_common(1)[0][0] if counts else ""


def to_transformers(tensors: Mapping[str, Tensor], *, num_labels: int) -> dict[str, Tensor]:
    """The tensors under the names of `SegformerForSemanticSegmentation`, in float32.

    Wrappers' prefixes are stripped, fused keys and values are parted, a classifier with one output more than
    `num_labels` (void, the last) is cut, and a missing counter of batches, which has no influence, is 0. `conv_seg` and
    ImageNet's `head` are dropped where there is a classifier. A name that is not understood stays as it is.

    Args:
        tensors: as from `read_tensors`.
        num_labels: the model's classes.

    Raises:
        EffiSegError: a tensor is not finite, or two tensors have the same meaning.
    """
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in _parted(_finite(tensors).items()):
        target = _target(name)
        if target in renamed:
            raise EffiSegError(
                f"checkpoint: '{origin[target]}' and '{name}' both mean '{target}'; expected the tensors of one model: "
                "save it alone and use that file"
            )
        renamed[target], origin[target] = tensor, name
    if _CLASSIFIER[0] in renamed:
        renamed = {name: tensor for name, tensor in renamed.items() if not _UNUSED.fullmatch(name)}
    if "decode_head.batch_norm.running_mean" in renamed:
        renamed.setdefault("decode_head.batch_norm.num_batches_tracked", torch.tensor(0))
    return renamed | _without_void(renamed, num_labels)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Put the tensors into the model, all of them and nothing but them.

    Args:
        model: left untouched on an error.
        tensors: under the model's own names, as from `to_transformers`.
        origin: what the message calls the checkpoint, such as its path.

    Raises:
        EffiSegError: tensors are missing, unexpected, or of another shape or kind.
    """
    own = model.state_dict()
    if found := misfits(tensors, own, own):
        why = reason(tensors, own)
        raise EffiSegError(
            f"{origin}: does not fit the model{why and f': {why}'}; nothing was loaded: {'; '.join(found)}; use a "
            "checkpoint of this very architecture, variant and number of classes"
        )
    model.load_state_dict(dict(tensors))


def misfits(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], wanted: Iterable[str]) -> list[str]:
    """What keeps tensors from taking the places `wanted` among a model's `own`, in words; empty where all fit."""
    wanted = list(wanted)
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in own],
        "misshaped": [
            f"{name}: found {_shape(tensors[name])}, expected {_shape(own[name])}"
            for name in wanted
            if name in tensors and not _fits(tensors[name], own[name])
        ],
    }
    return [f"{len(names)} {problem} ({listed(names)})" for problem, names in problems.items() if names]


def _finite(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, floating ones as float32."""
    converted = {
        name: tensor.detach().to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    bad = [name for name, tensor in converted.items() if not tensor.isfinite().all()]
    if bad:
        raise EffiSegError(
            f"checkpoint: {len(bad)} tensors are not finite (NaN or infinite) in float32: {listed(bad)}; "
            "its training diverged or the file is damaged: use another one"
        )
    return converted


def _parted(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Fused queries, keys and values as tensors of their own, which stand one after the other in the rows."""
    for name, tensor in named:
        if fused := _FUSED.fullmatch(name):
            for part, rows in zip("kv", torch.atleast_1d(tensor).tensor_split(2), strict=True):
                yield f"{fused['attention']}{part}{fused['parameter']}", rows
        elif fused := _MM_FUSED.fullmatch(name):
            for part, rows in zip("qkv", torch.atleast_1d(tensor).tensor_split(3), strict=True):
                yield f"{fused['attention']}{part}.{fused['parameter']}", rows
        else:
            yield name, tensor.flatten(1) if _MM_LINEAR.fullmatch(name) else tensor


def _target(name: str) -> str:
    for pattern, target, _ in _TARGETS:
        match = pattern.fullmatch(name)
        if match:
            found = match.groupdict()
            stage = int(found["n"]) - 1 if "n" in found else found.get("i")
            return f"{target.format(i=stage, b=found.get('b'))}.{found['parameter']}"
    return name


def _without_void(tensors: Mapping[str, Tensor], num_labels: int) -> dict[str, Tensor]:
    """The classifier without its last output, where it has exactly one too many."""
    classifier = {name: tensors[name] for name in _CLASSIFIER if name in tensors}
    if any(tensor.shape[:1] != (num_labels + 1,) for tensor in classifier.values()):
        return {}
    return {name: tensor[:num_labels] for name, tensor in classifier.items()}


def _fits(found: Tensor, expected: Tensor) -> bool:
    # integers in a parameter's place are quantised weights, whose scale is lost
    return found.shape == expected.shape and (found.is_floating_point() or not expected.is_floating_point())


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

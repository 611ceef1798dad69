"""The deployed form as a file for other runtimes."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from effiseg.base.errors import EffiSegError
from effiseg.base.files import whole_file
from effiseg.deployment.graphs import from_kept_graph

OPSET = 20  # the first with GELU as one operator


def export_onnx(
    model: nn.Module,
    path: Path,
    outputs: Sequence[str] = ("logits",),
    *,
    graphs: Path | None = None,
    size: tuple[int, int] | None = None,
) -> None:
    """Write one self-contained ONNX file, whole or not at all.

    Input `images`: uint8 (N, 3, H, W), RGB; output `logits`: float (N, classes, H/4, W/4). Batch and size are free,
    unless `size` is given.

    Args:
        model: uint8 images to logits, on the CPU; best a deployed form.
        outputs: names of what the model gives, when that is something else.
        graphs: a folder that keeps exported graphs, so that one is traced once for all networks of its structure;
            the file is the same with it and without. None: nothing is kept.
        size: (H, W), for a file that takes one image of it at a time.

    Raises:
        EffiSegError: the path's folder does not exist, or the path is a folder.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise EffiSegError(f"{path}: expected the path of a file in a folder that exists; create {path.parent} first")
    settings = (OPSET, size, *outputs)
    kept = graphs and from_kept_graph(model, graphs, lambda other: _traced(other, outputs, size).model_proto, settings)
    with whole_file(path) as partial:
        if kept:
            onnx.save(kept, partial)
        else:
            _traced(model, outputs, size).save(partial, external_data=False)


def _traced(model: nn.Module, outputs: Sequence[str], size: tuple[int, int] | None) -> torch.onnx.ONNXProgram:
    example = torch.zeros(1, 3, *size, dtype=torch.uint8) if size else torch.zeros(2, 3, 64, 96, dtype=torch.uint8)
    free = torch.export.Dim.DYNAMIC
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of torchvision, which nothing here needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=None if size else ({0: free, 2: free, 3: free},),
            input_names=["images"],
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program

"""Exported graphs without their weights, kept in a folder: networks of one structure differ in nothing else.

A weight is a parameter or a buffer, of whichever module; the exporter keeps each under its own name.
"""

import copy
import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from effiseg.models.deployed import Deployed

PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "transformers")
_NAN = 0x7FC00000  # float32; the bits below it are free


def from_kept_graph(
    model: nn.Module, folder: Path, export: Callable[[nn.Module], onnx.ModelProto], settings: object
) -> onnx.ModelProto | None:
    """What `export(model)` gives, made of the graph that `folder` keeps and the model's weights.

    Where the folder has no such graph, or a damaged one, a stand-in of the model is exported and its graph kept.

    Args:
        model: on the CPU.
        folder: made when it is not there; several processes may use it at once.
        settings: all that `export` follows beside the model and the code; only its `repr` matters.

    Returns:
        None where a graph of such a model would not do for other weights: it has to be exported by itself.
    """
    weights = _weights(model)
    if any(weight.dtype != torch.float32 for weight in weights.values()):
        return None
    key = _key(model, weights, settings)
    path = folder / f"{key}.graph"
    kept = _read(path, key)
    if kept is not None and _fill(kept, weights):
        return kept
    graph = export(_stand_in(model))
    if not _strip(graph, weights):
        return None
    content = graph.SerializeToString()
    if not _fill(graph, weights):
        return None
    _write(path, key, content)
    return graph


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _key(model: nn.Module, weights: dict[str, Tensor], settings: object) -> str:
    """Digest of all that the graph follows from: modules and their settings, the weights' shapes, code and versions.

    Which weights are zero belongs to it, since the exporter leaves out a bias of zeros.
    """
    modules = [
        (name, type(module).__qualname__, sorted((k, repr(v)) for k, v in vars(module).items() if k[0] != "_"))
        for name, module in model.named_modules()
    ]
    shapes = [(name, *each.shape, *each.stride(), bool(each.any())) for name, each in weights.items()]
    rooms = (Path(__file__).parent, Path(inspect.getfile(Deployed)).parent)
    files = {*(file for room in rooms for file in room.glob("*.py"))}
    files |= {Path(inspect.getfile(type(each))) for each in model.modules()}
    code = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    versions = [version(package) for package in PACKAGES]
    return hashlib.sha256(repr((modules, shapes, code, versions, settings)).encode()).hexdigest()


def _stand_in(model: nn.Module) -> nn.Module:
    """A copy, each weight a NaN of its own in place of everything but zeros.

    No two are equal, so that the exporter merges none, and what it computes from one, or adds to it, cannot pass for a
    constant of the structure.
    """
    other = copy.deepcopy(model)
    for index, weight in enumerate(_weights(other).values()):
        if weight.any():
            weight.view(torch.int32).fill_(_NAN + index)
    return other


def _strip(graph: onnx.ModelProto, weights: dict[str, Tensor]) -> bool:
    """Take the stand-in's weights out; False if something that was computed from them may remain."""
    attributes = [attribute for node in graph.graph.node for attribute in node.attribute]
    if graph.functions or any(attribute.HasField("g") for attribute in attributes):
        return False  # graphs within the graph, of which this package has none
    constants = [np.array([attribute.f, *attribute.floats]) for attribute in attributes]
    constants += [numpy_helper.to_array(attribute.t) for attribute in attributes if attribute.HasField("t")]
    for tensor in graph.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("raw_data")
        else:
            constants.append(numpy_helper.to_array(tensor))
    return not any(np.isnan(constant).any() for constant in constants)


def _fill(graph: onnx.ModelProto, weights: dict[str, Tensor]) -> bool:
    """Put the weights in, but those that no output needs and zeros, which it lacks; False if they have other shapes."""
    for tensor in graph.graph.initializer:
        weight = weights.get(tensor.name)
        if weight is None:
            continue
        if tuple(tensor.dims) != weight.shape or tensor.data_type != onnx.TensorProto.FLOAT:
            return False
        tensor.CopyFrom(numpy_helper.from_array(weight.contiguous().numpy(), tensor.name))
    return True


def _read(path: Path, key: str) -> onnx.ModelProto | None:
    """The graph; None where there is none, or its file is damaged or that of another key."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, content = content[:32], content[32:]
    return onnx.ModelProto.FromString(content) if digest == _digest(key, content) else None


def _write(path: Path, key: str, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid4().hex}.partial")  # another process may write the same graph
    try:
        partial.write_bytes(_digest(key, content) + content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()

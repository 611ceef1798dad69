"""The deployed form for TensorRT: an ONNX file of one size, held against the list of what TensorRT takes."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from effiseg.base.errors import EffiSegError
from effiseg.deployment.card import Card
from effiseg.deployment.onnx_file import write_fixed
from effiseg.models.deployed import Deployed

FILE, COMMAND_FILE = "model.onnx", "trtexec.txt"
# for the folder that holds the file; TensorRT 11 knows no --fp16 any more
COMMAND = f"trtexec --onnx={FILE} --saveEngine=model.engine --fp16"

# What TensorRT 10.15 takes, by the type of an operator's first input: docs/operators.md of that release of
# github.com/onnx/onnx-tensorrt (opsets 9 to 24). Operators with restrictions that `_refusals` does not look at are
# left out.
_OPSETS = range(9, 25)
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_NUMBERS = _FLOATS | {TensorProto.INT32, TensorProto.INT64}
_ANY = _NUMBERS | {TensorProto.BOOL}
_BY_TYPES: dict[frozenset[int], str] = {
    _FLOATS: """
        Acos Acosh Asin Asinh Atan Atanh BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh Einsum Elu Erf
        Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid HardSwish
        InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LRN MatMul
        MeanVarianceNormalization PRelu Reciprocal Resize RMSNormalization Round Selu Sigmoid Sin Sinh Softmax Softplus
        Softsign Sqrt Tan Tanh ThresholdedRelu
    """,
    _NUMBERS: """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod
        Mul Neg Pad Pow Range Relu Shrink Sign SpaceToDepth Sub Sum
    """,
    _ANY: """
        Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity Reshape Shape Size Slice
        Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """,
    frozenset({TensorProto.BOOL}): "And Not Or Xor",
    _ANY | {TensorProto.UINT8}: "Cast",
}
SUPPORTED = {operator: types for types, operators in _BY_TYPES.items() for operator in operators.split()}
_RESIZE = {  # the values of its attributes that TensorRT takes; the first is ONNX's own
    "mode": (b"nearest", b"linear"),
    "coordinate_transformation_mode": (
        b"half_pixel",
        b"pytorch_half_pixel",
        b"tf_half_pixel_for_nn",
        b"asymmetric",
        b"align_corners",
    ),
    "keep_aspect_ratio_policy": (b"stretch",),
    "antialias": (0,),
}


def write_tensorrt(network: Deployed, folder: Path, card: Card) -> None:
    """Write model.onnx for images of `card.size` into `folder`, and beside it the command that builds an engine of it.

    Input `images`: uint8 (1, 3, H, W), RGB. Outputs `classes`: trainIds int32 (1, H, W), since TensorRT makes uint8 of
    floats alone, and `logits`: float32 (1, classes, H/4, W/4).

    Raises:
        EffiSegError: the file has something that TensorRT is known to refuse.
    """
    path = folder / FILE
    write_fixed(network, path, card)
    if refused := list(_refusals(onnx.load(path))):
        raise EffiSegError(
            f"{FILE} for TensorRT: {'; '.join(dict.fromkeys(refused))}; nothing was exported, report this as a fault "
            "of the export"
        )
    (folder / COMMAND_FILE).write_text(COMMAND + "\n", encoding="utf-8")


def _refusals(model: onnx.ModelProto) -> Iterator[str]:
    """What TensorRT 10 would refuse of an ONNX file, or is not known to take."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
        if not all(side.dim_value > 0 for side in value.type.tensor_type.shape.dim):
            yield f"{value.name} has a free shape"
    opsets = {each.domain: each.version for each in model.opset_import}
    if opsets.get("") not in _OPSETS:
        yield f"opset {opsets.get('')}, expected {_OPSETS[0]} to {_OPSETS[-1]}"
    if model.functions:
        yield "functions"
    for node in graph.node:
        yield from _refusals_of(node, types)


def _refusals_of(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[str]:
    """The same of one operator, by the types of all tensors."""
    if node.domain or node.op_type not in SUPPORTED:
        yield f"the operator {node.domain}{'.' if node.domain else ''}{node.op_type}"
        return
    types_here = [types.get(name, TensorProto.UNDEFINED) for name in (*node.input[:1], *node.output[:1])]
    if node.input and types_here[0] not in SUPPORTED[node.op_type]:
        yield f"{node.op_type} of {_told(types_here[0])}"
    if TensorProto.UINT8 in types_here and not _FLOATS & set(types_here):
        # NvInfer.h of TensorRT 10: "kUINT8 conversions are not supported for {kINT8, kINT32, kBOOL}"
        yield f"{node.op_type} from {_told(types_here[0])} to {_told(types_here[-1])}"
    if node.op_type == "LayerNormalization" and len(node.output) > 1:
        yield "LayerNormalization with more than one output"
    if node.op_type == "Resize":
        for attribute in node.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name in _RESIZE and value not in _RESIZE[attribute.name]:
                yield f"Resize with {attribute.name} {value.decode() if isinstance(value, bytes) else value}"


def _told(kind: int) -> str:
    name: str = TensorProto.DataType.Name(kind)
    return name

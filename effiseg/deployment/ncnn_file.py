"""The deployed form for ncnn, which runs on phones and small boards: converted by pnnx for one size, and opened."""

import copy
import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from effiseg.base.errors import EffiSegError
from effiseg.base.files import write_json
from effiseg.deployment.card import PREFIX, Card
from effiseg.deployment.runtimes import FileSegmenter
from effiseg.evaluation.evaluate import predict_classes
from effiseg.models.deployed import Block, Deployed
from effiseg.models.folding import Affine

PARAM, WEIGHTS, CARD_FILE = "model.ncnn.param", "model.ncnn.bin", "card.json"
INSTALL_NCNN = "pip install ncnn==1.0.20261020 pnnx==20261020"  # as requirements-ncnn.in pins them
MISSING_NCNN = f"run `make setup-ncnn` (elsewhere: `{INSTALL_NCNN}`)"


def ncnn_installed() -> bool:
    """Whether the extra is there, converter and runtime."""
    return find_spec("ncnn") is not None and find_spec("pnnx") is not None


def _import_ncnn() -> ModuleType:
    try:
        import ncnn
    except ModuleNotFoundError:
        raise EffiSegError(f"ncnn is not installed; {MISSING_NCNN}") from None
    return ncnn


def write_ncnn(network: Deployed, folder: Path, card: Card) -> None:
    """Write model.ncnn.param, model.ncnn.bin and card.json for images of `card.size` into `folder`.

    Input `in0`: float32 (3, H, W), RGB in 0..255; output `out0`: logits float32 (classes, H/4, W/4). All in float32.

    Raises:
        EffiSegError: pnnx is not installed, or does not take the network.
    """
    if not ncnn_installed():
        raise EffiSegError(f"ncnn is not installed; {MISSING_NCNN}")
    import pnnx

    with TemporaryDirectory() as scratch:
        traced = Path(scratch, "model.pt")
        _traced(network, card.size).save(traced)
        shape = f"inputshape=[1,3,{card.size[0]},{card.size[1]}]"
        command = [pnnx.EXEC_PATH, traced.name, shape, "fp16=0"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        told = [line for line in (done.stdout + done.stderr).splitlines() if re.search("not supported|^ignore ", line)]
        if done.returncode or told or not Path(scratch, PARAM).is_file():
            reason = "; ".join(dict.fromkeys(told)) or f"exit status {done.returncode}: {done.stderr.strip()[-200:]}"
            raise EffiSegError(f"pnnx cannot convert the network for ncnn ({reason}); use another target")
        for name in (PARAM, WEIGHTS):
            shutil.copyfile(Path(scratch, name), folder / name)
    write_json(folder / CARD_FILE, card.plain())


def _traced(network: Deployed, size: tuple[int, int]) -> torch.jit.ScriptModule:
    own = copy.deepcopy(network)
    for module in own.modules():
        if isinstance(module, Block):
            module._attend = partial(_attend, module)  # type: ignore[method-assign]
        elif isinstance(module, Affine):
            module.forward = partial(_affine, module)  # type: ignore[method-assign]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of sizes that become constants, as they should
        traced: torch.jit.ScriptModule = torch.jit.trace(own, torch.zeros(1, 3, *size), check_trace=False)
    return traced


def _affine(affine: Affine, x: Tensor) -> Tensor:
    """What `Affine` computes, of operators that pnnx knows: it ignores torch.addcmul."""
    return x * affine.scale + affine.shift


def _attend(block: Block, x: Tensor) -> Tensor:
    """A deployed block's attention on (1, H, W, C), keys and values parted along the channels.

    pnnx cannot part them along a first axis as the block does: "unbind along batch axis 0 is not supported".
    """
    _, height, width, channels = x.shape

    def by_head(tokens: Tensor) -> Tensor:
        return tokens.reshape(1, -1, block.heads, channels // block.heads).transpose(1, 2)

    key, value = block.key_value(block.reduction(x)).chunk(2, dim=-1)
    mixed = F.scaled_dot_product_attention(by_head(block.query(x)), by_head(key), by_head(value))
    output: Tensor = block.output(mixed.transpose(1, 2).reshape(1, height, width, channels))
    return output


class NcnnSegmenter(FileSegmenter):
    """A folder that `write_ncnn` filled, by its model.ncnn.param, in ncnn: for images of the card's size."""

    runtime = "ncnn"
    file = PARAM

    def _open(self, path: Path) -> Mapping[str, str]:
        self.net = _import_ncnn().Net()
        options = self.net.opt
        options.num_threads = torch.get_num_threads()
        # by itself ncnn computes in half precision where the processor has it
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self.net.load_param(str(path)) or self.net.load_model(str(path.with_name(WEIGHTS))):
            raise ValueError(f"{PARAM} or {WEIGHTS} is damaged")
        fields = json.loads(path.with_name(CARD_FILE).read_text(encoding="utf-8"))
        return {f"{PREFIX}{key}": json.dumps(value) for key, value in fields.items()}

    def _run(self, output: str, images: NDArray[np.uint8]) -> NDArray[Any]:
        if images.shape[2:] != self.card.size:
            found, expected = ("x".join(map(str, size)) for size in (images.shape[2:], self.card.size))
            raise EffiSegError(f"{PARAM}: found images of {found}, expected {expected}; export it for their size")
        logits = np.stack([self._logits(image) for image in images])
        if output == "logits":
            return logits
        classes: NDArray[Any] = predict_classes(torch.from_numpy(logits), images.shape[2:]).numpy()
        return classes

    def _logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pixels (3, H, W) -> logits (classes, H/4, W/4); raises `EffiSegError` where ncnn has none."""
        extractor = self.net.create_extractor()
        pixels = np.ascontiguousarray(image, dtype=np.float32)  # ncnn heeds no strides, and does not keep it alive
        extractor.input("in0", _import_ncnn().Mat(pixels))
        status, logits = extractor.extract("out0")
        if status:  # there are no logits then, and to look at them ends the process
            raise EffiSegError(f"{PARAM}: ncnn cannot run it (status {status}); free memory, or export the row again")
        return np.array(logits)

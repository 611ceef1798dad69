"""A trained network as a file small enough for git: `python -m effiseg.weights.shrink FOLDER FILE`."""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from effiseg.base.files import whole_file
from effiseg.weights.files import read_tensors


def shrink(folder: Path, path: Path) -> None:
    """Write the weights of a model folder to `path`, a quarter of their size, as any teacher's checkpoint is read.

    Matrices and kernels become 8-bit floats (e4m3, 1 / 16 of relative rounding at most, above 2^-6), vectors (biases,
    norms, running statistics) 16-bit floats.

    Raises:
        EffiSegError: the folder's weights are missing or damaged.
    """
    small = {
        name: tensor.to(torch.float8_e4m3fn if tensor.ndim > 1 else torch.float16)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in read_tensors(folder / "model.safetensors").items()
    }
    with whole_file(path) as partial:
        save_file(small, partial, metadata={"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what a training wrote, such as runs/teacher-0/model/last")
    parser.add_argument("path", type=Path, help="the file to write")
    arguments = parser.parse_args()
    shrink(arguments.folder, arguments.path)

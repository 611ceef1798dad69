"""A shrunk checkpoint: a quarter of the size, read and loaded as any other, and almost the same answers."""

from pathlib import Path

import torch

from effiseg.base.config import Config
from effiseg.models.segformer import build_model, save_model
from effiseg.weights.files import read_tensors
from effiseg.weights.layouts import load_strictly, to_transformers
from effiseg.weights.shrink import shrink

CLASSES = [f"class {i}" for i in range(19)]


def test_a_shrunk_checkpoint_loads_strictly_and_answers_almost_the_same(tmp_path: Path, shipped: Config):
    torch.manual_seed(0)
    settings = shipped.row("baseline").model
    model = build_model(settings, CLASSES).eval()
    with torch.no_grad():  # a value of its own for every parameter: no two agree by their initialisation
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.network.decode_head.batch_norm.running_mean.normal_()
        model.network.decode_head.batch_norm.running_var.uniform_(0.5, 2)
    save_model(model, tmp_path / "last")
    shrink(tmp_path / "last", tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 0.3 * (tmp_path / "last/model.safetensors").stat().st_size

    other = build_model(settings, CLASSES).eval()
    tensors = to_transformers(read_tensors(tmp_path / "small.safetensors"), num_labels=19)
    load_strictly(other.network, tensors, origin="small")
    for name, weight in model.network.state_dict().items():
        # half of the last of three bits, or half of the smallest step near 0
        assert torch.all((other.network.state_dict()[name] - weight).abs() <= weight.abs() / 16 + 2**-10), name
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        expected, found = model(images), other(images)
    assert 0 < (found - expected).std() < 0.2 * expected.std()

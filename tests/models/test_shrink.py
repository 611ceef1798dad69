"""A shrunk checkpoint: a quarter of the size, read and loaded as any other, and almost the same answers."""

import torch

from effiseg.models.segformer import build_model, save_model
from effiseg.models.shrink import shrink
from effiseg.models.weights import load_strictly, read_tensors, to_transformers

CLASSES = [f"class {i}" for i in range(19)]


def test_a_shrunk_checkpoint_loads_strictly_and_answers_almost_the_same(tmp_path, settings_with, shaken):
    torch.manual_seed(0)
    model = build_model(settings_with(), CLASSES)
    shaken(model.network)
    model.eval()
    save_model(model, tmp_path / "last")
    shrink(tmp_path / "last", tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 0.3 * (tmp_path / "last/model.safetensors").stat().st_size

    other = build_model(settings_with(), CLASSES).eval()
    tensors = to_transformers(read_tensors(tmp_path / "small.safetensors"), num_labels=19)
    load_strictly(other.network, tensors, origin="small")
    for name, weight in model.network.state_dict().items():
        # half of the last of three bits, or half of the smallest step near 0
        assert torch.all((other.network.state_dict()[name] - weight).abs() <= weight.abs() / 16 + 2**-10), name
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        expected, found = model(images), other(images)
    assert 0 < (found - expected).std() < 0.2 * expected.std()

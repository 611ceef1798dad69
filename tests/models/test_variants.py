"""B0 to B5: as published, as transformers counts them, and any of them teaching any other."""

from pathlib import Path

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from effiseg.base.config import load_config
from effiseg.models.segformer import build_model
from effiseg.training.task import Task
from effiseg.weights.reasons import variant_of
from effiseg.weights.variants import VARIANTS
from tests.settings import CITYSCAPES

PARAMETERS_M = {"b0": 3.72, "b1": 13.68, "b2": 27.36, "b3": 47.24, "b4": 64.01, "b5": 84.61}


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_as_published(repository: Path, variant: str):
    settings = load_config(repository / "params.yaml").model.model_copy(update={"variant": variant})
    with torch.device("meta"):
        ours = build_model(settings, CITYSCAPES.classes)
        stock = SegformerForSemanticSegmentation(SegformerConfig(num_labels=19, **VARIANTS[variant]))
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count == sum(parameter.numel() for parameter in stock.parameters())
    assert round(count / 1e6, 2) == PARAMETERS_M[variant]
    assert variant_of(ours.network.state_dict()) == variant


@pytest.mark.parametrize(("student", "teacher"), [("b1", "b0"), ("b0", "b1"), ("b1", "b1")])
def test_any_size_learns_from_any_other(repository: Path, monkeypatch, student: str, teacher: str):
    sizes = {"b0": ([4, 8, 10, 16], [1, 2, 1, 1]), "b1": ([6, 10, 10, 24], [2, 1, 1, 3])}
    for name, (widths, depths) in sizes.items():
        size = {"hidden_sizes": widths, "depths": depths, "decoder_hidden_size": 12}
        monkeypatch.setitem(VARIANTS, name, size | {"num_attention_heads": [1, 2, 2, 4]})
    config = load_config(repository / "params.yaml")
    row = config.row("combined")
    row = row.model_copy(update={"model": row.model.model_copy(update={"variant": student})})
    taught_by = config.model.model_copy(update={"variant": teacher})
    task = Task(build_model(row.model, CITYSCAPES.classes), build_model(taught_by, CITYSCAPES.classes), row, [1.0] * 19)
    images = torch.randint(0, 256, (2, 3, 64, 128), dtype=torch.uint8)
    loss = task(images, torch.randint(0, 19, (2, 64, 128), dtype=torch.uint8))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in task.student.parameters() if parameter.requires_grad)

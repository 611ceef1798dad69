"""Learning rates that differ within a network."""

import pytest

from effiseg.base.schema import Model
from effiseg.models.segformer import build_model
from effiseg.training.rates import rate_factors
from tests.settings import CITYSCAPES

DEPTHS = [2, 2, 2, 2]


def test_each_block_before_the_head_learns_a_share_as_fast():
    names = {
        "student.network.decode_head.classifier.weight": 0,
        "terms.cskd.projectors.0.weight": 0,
        "student.network.segformer.stages.3.layer_norm.weight": 1,
        "student.network.segformer.stages.3.blocks.1.mlp.fc1.weight": 1,
        "student.network.segformer.stages.3.blocks.0.mlp.fc1.weight": 2,
        "student.network.segformer.stages.3.patch_embeddings.proj.weight": 3,
        "student.network.segformer.stages.2.layer_norm.weight": 3,
        "student.network.segformer.stages.2.blocks.1.mlp.fc1.weight": 3,
        "student.network.segformer.stages.0.blocks.0.mlp.fc1.weight": 8,
        "student.network.segformer.stages.0.patch_embeddings.proj.weight": 9,
        "student.network.segformer.stages.0.patch_embeddings.layer_norm.bias": 9,
    }
    assert rate_factors(names, DEPTHS, head=1.0, decay=0.5) == {name: 0.5**behind for name, behind in names.items()}


def test_the_head_has_its_factor_and_no_other_parameter_is_forgotten(make_config):
    model: Model = make_config().model
    names = [f"student.{name}" for name, _ in build_model(model, CITYSCAPES.classes).named_parameters()]
    factors = rate_factors(names, DEPTHS, head=10.0, decay=0.9)
    assert {factor for name, factor in factors.items() if "decode_head." in name} == {10.0}
    encoder = {round(factor, 9) for name, factor in factors.items() if "segformer." in name}
    assert encoder == {round(0.9**behind, 9) for behind in range(1, 10)}
    assert rate_factors(names, DEPTHS, head=1.0, decay=1.0) == dict.fromkeys(names, pytest.approx(1.0))

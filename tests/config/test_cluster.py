"""The section `cluster`: what a stage takes of a machine."""

from typing import Any

import pytest

from effiseg.base.config import Config
from effiseg.base.schema import Cluster


def test_a_stage_takes_what_it_says_and_else_the_default(shipped: Config) -> None:
    resources = {"default": {"cpus": 2, "gpus": "auto", "memory_gb": 4.0}, "train": {"gpus": 0.5}}
    cluster = Cluster.model_validate(shipped.cluster.model_dump() | {"resources": resources})

    assert cluster.of("train").model_dump() == {"cpus": 2, "gpus": 0.5, "memory_gb": 4.0}
    assert cluster.of("report").model_dump() == {"cpus": 2, "gpus": "auto", "memory_gb": 4.0}


def test_a_variation_of_a_stage_takes_what_the_stage_does_unless_it_says_otherwise(shipped: Config) -> None:
    resources: dict[str, Any] = {"default": {"cpus": 2, "gpus": "auto", "memory_gb": 4.0}, "profile": {"cpus": "all"}}
    for own, cpus in (({}, "all"), ({"profile_distilled": {"gpus": 0}}, 2)):
        cluster = Cluster.model_validate(shipped.cluster.model_dump() | {"resources": resources | own})
        assert cluster.of("profile_distilled").cpus == cpus
        assert cluster.of("profile").cpus == "all"
        assert cluster.of("profiled").cpus == 2


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"train": {"cpus": 1}}, "resources.default must say cpus, gpus and memory_gb"),
        ({"default": {"cpus": 1, "gpus": 0}}, "resources.default must say cpus, gpus and memory_gb"),
        ({"default": {"cpus": 1.5, "gpus": 0, "memory_gb": 1}}, "cpus above 1 must be a whole number, found 1.5"),
        ({"default": {"cpus": 0, "gpus": 0, "memory_gb": 1}}, "greater than 0"),
    ],
)
def test_resources_that_make_no_sense_are_refused(shipped: Config, resources: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster.model_validate(shipped.cluster.model_dump() | {"resources": resources})

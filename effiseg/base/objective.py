"""The section `loss` of params.yaml: the terms that an objective may sum, with their settings."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from effiseg.base.section import Rate, Section, StageWeights, Weight

ProjectorName = Literal["conv", "conv_bn_relu"]
DISTILLATION_TERMS = ("kl", "cwd", "dist", "cskd", "pekd", "feature_mse")


class LossWeights(Section):
    weighted_ce: Weight
    ce: Weight
    dice: Weight
    focal: Weight
    tversky: Weight
    focal_tversky: Weight
    kl: Weight
    cwd: Weight
    dist: Weight
    cskd: Weight
    pekd: Weight
    feature_mse: Weight

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not self.active():
            raise ValueError("every weight is 0; give at least one term a weight above 0")
        return self

    def active(self) -> dict[str, float]:
        """The terms with weight above 0."""
        return {term: weight for term, weight in self.model_dump().items() if weight > 0}


class DiceSettings(Section):
    smooth: Rate


class FocalSettings(Section):
    gamma: Weight


class TverskySettings(Section):
    alpha: Weight
    beta: Weight
    smooth: Rate


class FocalTverskySettings(Section):
    gamma: Annotated[float, Field(ge=1, allow_inf_nan=False)]


class KlSettings(Section):
    temperature: Rate


class CwdSettings(Section):
    temperature: Rate


class DistSettings(Section):
    beta: Weight
    gamma: Weight
    temperature: Rate


class CskdSettings(Section):
    lambda_m: Weight
    lambda_s: Weight
    stage_weights: StageWeights
    projector: ProjectorName
    frozen: bool


class PekdSettings(Section):
    stage_weights: StageWeights


class FeatureMseSettings(Section):
    stage_weights: StageWeights


class Loss(Section):
    resolution: Literal["label", "quarter"]
    weights: LossWeights
    dice: DiceSettings
    focal: FocalSettings
    tversky: TverskySettings
    focal_tversky: FocalTverskySettings
    kl: KlSettings
    cwd: CwdSettings
    dist: DistSettings
    cskd: CskdSettings
    pekd: PekdSettings
    feature_mse: FeatureMseSettings

    @property
    def needs_teacher(self) -> bool:
        return any(term in DISTILLATION_TERMS for term in self.weights.active())

    def used(self) -> dict[str, Any]:
        """The active terms' weights and settings; `focal_tversky` reads those of `tversky` too."""
        terms = set(self.weights.active())
        if "focal_tversky" in terms:
            terms.add("tversky")
        settings = self.model_dump(include=terms)
        return {"resolution": self.resolution, "weights": self.weights.active(), **settings}

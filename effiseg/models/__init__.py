"""Models: SegFormer and its variants, their first weights, their deployed form."""

from effiseg.models.deployed import Deployed, deploy
from effiseg.models.student import build_student

__all__ = ["Deployed", "build_student", "deploy"]

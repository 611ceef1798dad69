"""Models: SegFormer and its variants, their deployed form, checkpoints of our own and of others."""

from effiseg.models.deployed import Deployed, deploy
from effiseg.models.student import build_student

__all__ = ["Deployed", "build_student", "deploy"]

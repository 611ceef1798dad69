"""Procedural street scenes: what they are painted with, their plan, what stands and moves on them, their layout."""

from effiseg.scenes.layout import render_scene

__all__ = ["render_scene"]

"""Procedural street scenes: a module each for canvas, plan, ground, what stands, what moves, and layout."""

from effiseg.data.scene.layout import render_scene

__all__ = ["render_scene"]

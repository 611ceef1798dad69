"""Evaluation: scores, floors to compare them with, and what a model costs to run."""

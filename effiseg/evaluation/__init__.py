"""Evaluation: mIoU and what else is scored, of a network on a split."""

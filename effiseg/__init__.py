"""EffiSeg: what makes a small segmentation network better, measured."""

__version__ = "0.2.0"

"""EffiSeg: what makes a small segmentation network better, measured."""

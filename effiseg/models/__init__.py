"""Models: SegFormer and its variants, checkpoints of our own and of others."""

"""Data: label spaces, sources, the prepared form, augmentation, generated scenes."""

"""Data: label spaces, the prepared form, predictions, augmentation."""

"""Videos, and folders of a camera's frames, predicted frame by frame into a coloured video."""

"""From a trained row to a device: files for other runtimes, what they cost, and what they answer."""

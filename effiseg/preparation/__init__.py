"""From a data set on disk to the prepared form, and the floors that need no network."""

"""A data set of anybody: a first table for a folder, a look at all of it, and fetching. Nothing here changes a number."""

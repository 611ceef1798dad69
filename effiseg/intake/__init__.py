"""A folder of anybody becomes a data set: a first table, a look at all of it, fetching. No number depends on it."""

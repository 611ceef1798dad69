"""The report: results of all rows in one table, one page and a set of figures."""

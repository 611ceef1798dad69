"""Trainings on a machine that has torch, but neither DVC nor MLflow: `pack`, `python -m effiseg.remote`, `unpack`.

`__main__.py` and `host.py` run before any package is there, on the standard library alone.
"""

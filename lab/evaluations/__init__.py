"""Evaluations of the default models on public data sets, which this project does not ship.

Definitions and preparation of the sets live here, the data elsewhere.
"""

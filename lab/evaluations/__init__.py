"""Evaluations of the default models on public data sets that this project does not ship."""

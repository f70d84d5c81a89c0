"""Evaluations on public data sets: definitions and preparation live here, the data elsewhere."""

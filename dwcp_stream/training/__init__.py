"""Training: from tables of telemetry to published models (extra `train`).

Graph authoring, data sets of windows, the trainers, metrics and reports belong here. Scoring, serving and
the model repository do not: a trained model leaves this package as the bytes of one ONNX graph plus its
manifest. The command line imports this package only inside `train` and `evaluate`, because jax and xgboost
are slow to import.
"""

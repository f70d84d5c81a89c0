"""What a definition leaves out about its models: names, targets, and a first model for a stream that names none."""

import msgspec

from dwcp_stream.streams.definition import ModelBinding, StreamDefinition


def completed(stream: StreamDefinition, *, says_models: bool) -> StreamDefinition:
    """Fill in what a file leaves out.

    Parameters
    ----------
    stream
        The definition as it was read.
    says_models
        Whether the file has the key `models`. A stream without it gets one model that looks for anomalies; one
        with `models = []` has none, and only its windows are kept.
    """
    bindings = stream.models if says_models else (ModelBinding(task="anomaly"),)
    return msgspec.structs.replace(stream, models=tuple(_binding(stream, b) for b in bindings))


def _binding(stream: StreamDefinition, binding: ModelBinding) -> ModelBinding:
    changes: dict[str, object] = {}
    if not binding.name:
        changes["name"] = f"{stream.name}-{binding.task}"
    if binding.task == "forecast":
        if not binding.targets:
            changes["targets"] = tuple(f.name for f in stream.fields if f.kind == "gauge" and not f.coded)
        if not binding.horizons:
            changes["horizons"] = (1,)
    return msgspec.structs.replace(binding, **changes)

"""What watches a stream before a model has been trained for it: a detector on River's statistics, as version 0.

It has the face of a verified model, so the pipeline, the worker and the backtest run it as any other. What belongs here
learns from the first sample and is never published; making models is `dwcp_stream.training`.
"""

from dwcp_stream.untrained.adaptive import AdaptiveDeviation
from dwcp_stream.untrained.model import untrained_model

__all__ = ["AdaptiveDeviation", "untrained_model"]

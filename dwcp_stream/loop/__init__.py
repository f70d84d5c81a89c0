"""The loop that makes models better by what really happened: which version forecasts best, and how sure that is.

Pure functions of the messages of `dwcp.accuracy`: no clock, no file, no Kafka.
"""

from dwcp_stream.loop.pairs import Paired, PairedErrors
from dwcp_stream.loop.sequential import Bounds, judge

__all__ = ["Bounds", "Paired", "PairedErrors", "judge"]

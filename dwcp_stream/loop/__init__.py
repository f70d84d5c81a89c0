"""The loop that makes models better by what really happened: which version serves, and when one is trained again.

`pairs` and `sequential` say which of two versions forecasts better and how sure that is, `skill` whether one is better
than the last value, `precision` whose alerts are right, `decider` and `due` what follows, `knowledge` what the topics
have said: pure functions, with no clock, file or Kafka. `trainer` alone acts, on the model repository and through
functions that it is given.
"""

from dwcp_stream.loop.pairs import Paired, PairedErrors
from dwcp_stream.loop.sequential import Bounds, judge

__all__ = ["Bounds", "Paired", "PairedErrors", "judge"]

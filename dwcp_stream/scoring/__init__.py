"""From windows to verdicts: ONNX sessions, batching, and the recurrent state a model keeps per entity.

What belongs here runs a model that has been verified already. Finding, checking and publishing models is
`dwcp_stream.registry`; making them is `dwcp_stream.training`; what follows from a verdict is in `alerts`,
`forecasts` and `drift`.
"""

from dwcp_stream.scoring.batching import BATCH_QUANTUM, MAX_BATCH, rounds
from dwcp_stream.scoring.latest import LatestScores
from dwcp_stream.scoring.model import UNTRAINED, Model
from dwcp_stream.scoring.session import SessionOptions, make_session
from dwcp_stream.scoring.state import ModelState
from dwcp_stream.scoring.verdicts import Verdicts

__all__ = [
    "BATCH_QUANTUM",
    "MAX_BATCH",
    "UNTRAINED",
    "LatestScores",
    "Model",
    "ModelState",
    "SessionOptions",
    "Verdicts",
    "make_session",
    "rounds",
]

"""What really happened, held against what was said: realised errors of forecasts, precision and recall of alerts.

Here belongs what adds up messages of `dwcp.accuracy`, `dwcp.anomalies` and `dwcp.feedback`, read from Kafka or from
anywhere else. What makes the messages is `dwcp_stream.forecasts` and `dwcp_stream.alerts`.
"""

from dwcp_stream.realised.alerts import AlertLedger
from dwcp_stream.realised.arms import ArmLedger
from dwcp_stream.realised.feedback import Feedback, build_feedback
from dwcp_stream.realised.forecasts import ForecastLedger

__all__ = ["AlertLedger", "ArmLedger", "Feedback", "ForecastLedger", "build_feedback"]

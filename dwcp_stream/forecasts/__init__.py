"""The closed loop of forecasts: kept until their target time, joined with what came, counted and corrected.

What to do about a link (streams, buffer) and how sure a forecast is belong here too. Models and windows do
not: quantiles and rows come in, sums and payloads go out.
"""

from dwcp_stream.forecasts.advice import Recommendation, confidence, link_scale, recommend
from dwcp_stream.forecasts.buckets import AccuracyBuckets, statistics
from dwcp_stream.forecasts.conformal import Correction
from dwcp_stream.forecasts.payload import (
    PredictionSource,
    build_accuracy,
    build_forecasts,
    build_incidents,
)
from dwcp_stream.forecasts.tracker import Advanced, ForecastTracker

__all__ = [
    "AccuracyBuckets",
    "Advanced",
    "Correction",
    "ForecastTracker",
    "PredictionSource",
    "Recommendation",
    "build_accuracy",
    "build_forecasts",
    "build_incidents",
    "confidence",
    "link_scale",
    "recommend",
    "statistics",
]

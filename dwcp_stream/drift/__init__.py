"""Drift: whether scores, forecast errors or inputs have changed since the model was trained or lately.

Detectors see block means of event time, never single samples and never a clock. What to do about drift
(retrain, promote, roll back) does not belong here.
"""

from dwcp_stream.drift.adwin import Adwin
from dwcp_stream.drift.detector import Detector
from dwcp_stream.drift.monitor import DriftMonitor
from dwcp_stream.drift.page_hinkley import PageHinkley
from dwcp_stream.drift.payload import build_drift
from dwcp_stream.drift.psi import MODERATE, SIGNIFICANT, InputShares, psi

__all__ = [
    "MODERATE",
    "SIGNIFICANT",
    "Adwin",
    "Detector",
    "DriftMonitor",
    "InputShares",
    "PageHinkley",
    "build_drift",
    "psi",
]

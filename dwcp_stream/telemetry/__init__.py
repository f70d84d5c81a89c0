"""What the daemon says of itself: the metrics catalogue, metrics, logs and health.

Everything here takes its clock, registry and output as arguments. Nothing here reads Kafka, and the pipeline
does not import it: the shell passes on what the pipeline returned.
"""

from dwcp_stream.telemetry.catalogue import CATALOGUE, OUTCOMES, Spec
from dwcp_stream.telemetry.health import Liveness, Readiness, Report
from dwcp_stream.telemetry.logs import configure_logging
from dwcp_stream.telemetry.metrics import Metrics

__all__ = [
    "CATALOGUE",
    "OUTCOMES",
    "Liveness",
    "Metrics",
    "Readiness",
    "Report",
    "Spec",
    "configure_logging",
]

"""Alert policy: when verdicts become an alert, how grave it is, when it ends, and what is published of it.

Nothing about models, windows or Kafka belongs here: scores come in, transitions and payloads go out.
Cool-downs, grouping and routing are the business of whoever reads the topic.
"""

from dwcp_stream.alerts.identity import ce_id, fingerprint
from dwcp_stream.alerts.payload import AlertSource, build_alert
from dwcp_stream.alerts.severity import LEVELS
from dwcp_stream.alerts.tracker import AlertTracker, Transition

__all__ = ["LEVELS", "AlertSource", "AlertTracker", "Transition", "build_alert", "ce_id", "fingerprint"]

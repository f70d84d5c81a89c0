"""Where alerts go besides their topic: Alertmanager and webhooks.

What to tell whom is pure here (`ledger`, `alertmanager`, `templates`, `backoff`); `client` and `courier` talk HTTP.
Nothing here knows Kafka: `kafka.alert_feed` reads the topic, `topologies.sink_process` puts it together.
"""

from dwcp_stream.sinks.ledger import Ledger, Telling, Verdict
from dwcp_stream.sinks.sink import Message, Sink, sinks_of

__all__ = ["Ledger", "Message", "Sink", "Telling", "Verdict", "sinks_of"]

"""What a worker serves over HTTP: metrics and health, on loopback unless a token guards it.

It only shows what telemetry holds. It starts inside the worker's event loop, and no handler touches Kafka or
the pipeline.
"""

from dwcp_stream.web.server import HttpServer

__all__ = ["HttpServer"]

"""What a worker serves over HTTP on loopback: metrics and health.

It only shows what telemetry holds. It starts inside the worker's event loop, and no handler touches Kafka or
the pipeline.
"""

from dwcp_stream.web.server import HttpServer

__all__ = ["HttpServer"]

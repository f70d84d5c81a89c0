"""The contract of the topics as an AsyncAPI 3.0 document, made from the payload types and the topic catalogue.

Here belongs what turns types into `docs/asyncapi.yaml`; the daemon does not need it at run time. What is published is
decided in `dwcp_stream.events` and `dwcp_stream.kafka.catalogue`, never here.
"""

from dwcp_stream.asyncapi.document import document
from dwcp_stream.asyncapi.payloads import message_schemas
from dwcp_stream.asyncapi.telemetry import frame_schema, sample_schema

__all__ = ["document", "frame_schema", "message_schemas", "sample_schema"]

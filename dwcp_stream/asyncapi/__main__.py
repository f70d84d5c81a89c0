"""``python -m dwcp_stream.asyncapi > docs/asyncapi.yaml``; a test checks that the file is current."""

import sys

from dwcp_stream.asyncapi.document import document, to_yaml
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams

shipped = Settings.model_fields["streams_dir"].get_default(call_default_factory=True)
sys.stdout.write(to_yaml(document(load_streams(shipped).values())))

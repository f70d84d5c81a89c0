"""``python -m dwcp_stream.telemetry > docs/metrics.md`` writes the page of the metrics catalogue."""

import sys

from dwcp_stream.telemetry.catalogue import markdown

if __name__ == "__main__":
    sys.stdout.write("\n".join(markdown()) + "\n")

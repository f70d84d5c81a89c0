"""Why an alert was raised: its score made again, what was expected, and which change would have prevented it."""

from dwcp_stream.explanation.explain import Explanation, explain
from dwcp_stream.explanation.witness import Seen, Witness

__all__ = ["Explanation", "Seen", "Witness", "explain"]

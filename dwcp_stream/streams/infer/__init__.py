"""Draft a stream's definition from a table of telemetry, with the reason of each guess.

Here belong the guesses: which column is the time, which tell the entities apart, what each other one is. Reading files
and writing the definition do not.
"""

from dwcp_stream.streams.infer.draft import Draft, infer_stream
from dwcp_stream.streams.infer.guess import Guess
from dwcp_stream.streams.infer.text import definition_text

__all__ = ["Draft", "Guess", "definition_text", "infer_stream"]

"""Signed commands: what may be commanded, by whom, and why one is refused.

Here belongs what decides about a record of `dwcp.control` from its bytes, headers and timestamp alone; judgements on
`dwcp.feedback` are signed alike. How records come
is `dwcp_stream.kafka.control`'s, and what a command does in a worker `topologies.control`'s.
"""

from dwcp_stream.control.commands import Action, Command, Promote, Retrain, Rollback, SetLogLevel, Shadow, Split
from dwcp_stream.control.signing import HEADER_KEY, HEADER_SIGNATURE, Flaw, Headers, Signed, sign, sign_value, signer
from dwcp_stream.control.verifier import EVERYONE, REFUSED, Received, Verdict, Verifier

__all__ = [
    "EVERYONE",
    "HEADER_KEY",
    "HEADER_SIGNATURE",
    "REFUSED",
    "Action",
    "Command",
    "Flaw",
    "Headers",
    "Promote",
    "Received",
    "Retrain",
    "Rollback",
    "SetLogLevel",
    "Shadow",
    "Signed",
    "Split",
    "Verdict",
    "Verifier",
    "sign",
    "sign_value",
    "signer",
]

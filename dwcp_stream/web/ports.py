"""Whether what a worker would listen on can be listened on, and who does if not."""

import errno
import socket

from dwcp_stream.diagnosis import Finding
from dwcp_stream.web.probe import EVERYWHERE, ask

OTHERS = ("what answers", "no answer")
"""How `ask` begins where it is not one of ours that listens."""


def check_port(host: str, port: int, whose: str, token: str | None = None) -> Finding | None:
    """Return what is wrong with an address, None if it is free or a worker of ours has it.

    Parameters
    ----------
    whose
        What would listen there, for the message.
    token
        What our own workers want of a request.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
        except OSError as error:
            number, reason = error.errno, error.strerror or str(error)
        else:
            return None
    where = f"{host}:{port}"
    remedy = "Set DWCP_HTTP__PORT to the first of some free ports, or 0 for any"
    if number != errno.EADDRINUSE:
        what = f"{whose} cannot listen there: {reason}"
        return Finding("problem", "ports", where, what, f"Check DWCP_HTTP__HOST, and your rights. {remedy}")
    if ask(EVERYWHERE.get(host, host), port, "live", token=token).startswith(OTHERS):
        return Finding("problem", "ports", where, f"another program listens where {whose} would", f"End it. {remedy}")
    return None

"""Asks this machine's workers for their health: ``python -m dwcp_stream.web.probe live|ready [STREAM...]``.

For the health check of a container: exits 0 when every worker says yes, else 1 with the reasons on stderr.
Without names it asks the workers of all streams, as `worker --all` runs them.
"""

import http.client
import json
import sys
from collections.abc import Sequence

from dwcp_stream.cli.worker import port_of
from dwcp_stream.errors import ConfigError, DwcpError
from dwcp_stream.settings import load_settings
from dwcp_stream.streams import load_streams

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # only read here: where to ask such a listener
QUESTIONS = ("live", "ready")


def ask(host: str, port: int, question: str, *, token: str | None = None, timeout: float = 3.0) -> str:
    """Return why a worker's answer is no; empty if it is yes."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", f"/health/{question}", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.client.OK:
            return ""
        if answer.status == http.client.UNAUTHORIZED:
            return f"{host}:{port} wants another token; give the worker's DWCP_HTTP__TOKEN"
        checks = json.loads(body)["checks"]
        return "; ".join(f"{name}: {check['reason']}" for name, check in checks.items() if not check["ok"])
    except (OSError, http.client.HTTPException) as error:
        return f"no answer at {host}:{port} ({error})"
    except (ValueError, KeyError, TypeError):
        return f"what answers at {host}:{port} is not a worker"
    finally:
        connection.close()


def probe(arguments: Sequence[str]) -> dict[str, str]:
    """Ask, and return the reasons of every stream whose worker says no.

    Raises
    ------
    ConfigError
        The question or a stream is not known, or the port is left to chance.
    """
    question, *wanted = arguments or ["live"]
    settings = load_settings()
    streams = sorted(load_streams(settings.streams_dir))
    unknown = sorted(set(wanted) - set(streams))
    if question not in QUESTIONS or unknown:
        raise ConfigError(
            f"not known: {' '.join(unknown) or question}",
            where="probe",
            remedy=f"Questions: {', '.join(QUESTIONS)}; streams: {', '.join(streams)}",
        )
    if settings.http.port == 0:
        raise ConfigError("0 leaves nothing to ask", where="http.port", remedy="Give a port (DWCP_HTTP__PORT)")
    host = EVERYWHERE.get(settings.http.host, settings.http.host)
    token = settings.http.token.get_secret_value() if settings.http.token else None
    reasons = {name: ask(host, port_of(settings, name, streams), question, token=token) for name in wanted or streams}
    return {name: reason for name, reason in reasons.items() if reason}


def main() -> int:
    """Run the program and return its exit code."""
    try:
        failed = probe(sys.argv[1:])
    except DwcpError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for name, reason in failed.items():
        sys.stderr.write(f"{name}: {reason}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

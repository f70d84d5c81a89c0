"""Why no broker answers: one connection of our own whose failure is put into words.

aiokafka logs why it could not connect and raises one and the same error for all of it.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from dwcp_stream.errors import BrokerError
from dwcp_stream.setting_sections import KafkaSettings
from dwcp_stream.settings import Settings, kafka_client_options

ATTEMPT_SECONDS = 5.0
"""Longest time to look at one broker."""

TLS_RECORDS = (0x15, 0x16)
"""First byte of an alert and of a handshake record, RFC 8446, section 5.1."""

CERTIFICATE_REMEDIES: Mapping[int, str] = MappingProxyType(
    {
        9: "Check the clocks; else the broker needs a certificate that is valid already",
        10: "The broker needs a new certificate (or check the clocks)",
        62: "Use a name of the certificate in DWCP_KAFKA__BOOTSTRAP_SERVERS and in advertised.listeners",
        64: "Use an address of the certificate in DWCP_KAFKA__BOOTSTRAP_SERVERS and in advertised.listeners",
    }
)
"""What to do by OpenSSL's verification code (X509_V_ERR_*, x509_vfy.h)."""

UNKNOWN_AUTHORITY = "Give the authority that signed it as DWCP_KAFKA__SSL_CAFILE"


async def unreachable(settings: Settings) -> BrokerError:
    """Return the error to raise when no client could start: why, by a connection to each broker in turn.

    A broker that refuses says more than one that is away, so the first refusal counts.
    """
    kafka = settings.kafka
    for host, port, _ in collect_hosts(kafka.bootstrap_servers):
        try:
            await _attempt(settings, host, port)
        except (KafkaError, OSError, TimeoutError) as error:
            told = await _explain(kafka, host, port, error)
            if told is not None:
                what, remedy = told
                return BrokerError(what, where=f"{host}:{port}", remedy=remedy)
    return BrokerError(
        "no broker answers",
        where=kafka.bootstrap_servers,
        remedy="Start one (`dwcp-stream broker`, `docker-compose up kafka`), or set DWCP_KAFKA__BOOTSTRAP_SERVERS",
    )


async def _attempt(settings: Settings, host: str, port: int) -> None:
    options: dict[str, Any] = kafka_client_options(settings)
    del options["bootstrap_servers"]
    options["request_timeout_ms"] = int(min(settings.kafka.request_timeout, ATTEMPT_SECONDS) * 1000)
    connection = await create_conn(host, port, **options)
    try:
        # With TLS 1.3 a broker refuses a client's certificate only after the client's side of the handshake.
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


async def _explain(kafka: KafkaSettings, host: str, port: int, error: BaseException) -> tuple[str, str] | None:
    """Return what is wrong and what to do, or None if the broker is simply not there."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = CERTIFICATE_REMEDIES.get(error.verify_code, UNKNOWN_AUTHORITY)
        return f"the broker's certificate is refused: {error.verify_message}", remedy
    if isinstance(error, SaslAuthenticationFailed | AuthenticationFailedError):
        return (
            f"the login of {kafka.sasl_username} is refused ({kafka.sasl_mechanism})",
            "Check DWCP_KAFKA__SASL_USERNAME, DWCP_KAFKA__SASL_PASSWORD and DWCP_KAFKA__SASL_MECHANISM",
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return (
            f"the broker does not offer {kafka.sasl_mechanism}",
            "Set DWCP_KAFKA__SASL_MECHANISM to one that it offers",
        )
    if isinstance(error, IllegalSaslStateError):
        return (
            "the broker asks for no login there",
            "Set DWCP_KAFKA__SECURITY_PROTOCOL to what this listener speaks, without SASL_",
        )
    if isinstance(error, socket.gaierror):
        return "the host name is not known", "Correct DWCP_KAFKA__BOOTSTRAP_SERVERS"
    return await _protocol(kafka, host, port, alert=isinstance(error.__cause__, ssl.SSLError))


async def _protocol(kafka: KafkaSettings, host: str, port: int, *, alert: bool) -> tuple[str, str] | None:
    """Compare what the listener speaks with what we speak, once a connection was made and then broke.

    A TLS alert after our side of the handshake is how a broker refuses a client's certificate, or the lack of one.
    """
    ours = kafka.security_protocol.endswith("SSL")
    theirs = await _speaks_tls(host, port)
    if theirs is None:
        return None
    if theirs and not ours:
        return (
            f"the broker speaks TLS there, {kafka.security_protocol} does not",
            "Set DWCP_KAFKA__SECURITY_PROTOCOL to SSL or SASL_SSL",
        )
    if ours and not theirs:
        return (
            f"the broker does not speak TLS there, {kafka.security_protocol} does",
            "Use the broker's TLS listener, or set DWCP_KAFKA__SECURITY_PROTOCOL to what this one speaks",
        )
    if alert and kafka.ssl_certfile is None:
        return (
            "the broker asks for a client certificate",
            "Give one as DWCP_KAFKA__SSL_CERTFILE and DWCP_KAFKA__SSL_KEYFILE",
        )
    if alert:
        return (
            f"the broker refuses the client certificate {kafka.ssl_certfile}",
            "Give one that is valid and signed by an authority that the broker trusts (its ssl.truststore)",
        )
    return (
        f"the broker ends connections that speak {kafka.security_protocol}",
        "Set DWCP_KAFKA__SECURITY_PROTOCOL to what this listener speaks, such as "
        + ("SASL_SSL" if ours else "SASL_PLAINTEXT"),
    )


async def _speaks_tls(host: str, port: int) -> bool | None:
    """Say hello as TLS does, and return whether the answer is TLS; None if nothing listens.

    The handshake stops there, so nothing has to be trusted.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(outgoing.read())
                answer = await reader.read(1)
            finally:
                writer.close()
    except ConnectionResetError:
        return False
    except (OSError, TimeoutError):
        return None
    return bool(answer) and answer[0] in TLS_RECORDS

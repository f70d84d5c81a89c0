"""How Faust's own clients log in; the other clients take `kafka_client_options`."""

from typing import Any

import faust

from dwcp_stream.settings import Settings, ssl_context


def broker_credentials(settings: Settings) -> Any:
    """Return Faust credentials for the configured security protocol, None for plain text."""
    kafka = settings.kafka
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = ssl_context(kafka) if kafka.security_protocol.endswith("SSL") else None
    if kafka.security_protocol == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        ssl_context=context,
    )

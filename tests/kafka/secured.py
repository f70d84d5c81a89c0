"""Apache Kafka with TLS, passwords, and access control, on loopback only."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from tests.kafka.broker import RealKafka, free_port
from tests.kafka.certificates import Authority

USERS = ("worker", "operator", "sender")
PASSWORD = "correct-horse-9f1c"
"""Password of all users, for PLAIN and for SCRAM; a search of output for it finds a leak."""

LISTENERS = {
    "SASL": "SASL_PLAINTEXT",
    "SASLTLS": "SASL_SSL",
    "MUTUAL": "SSL",  # a client certificate is required
    "EXPIRED": "SSL",
    "MISNAMED": "SSL",  # its certificate is for another host
}
MECHANISMS = {
    "plain": "org.apache.kafka.common.security.plain.PlainLoginModule required "
    + " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
    + ";",
    "scram-sha-256": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "scram-sha-512": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
}


class SecuredKafka(RealKafka):
    """A node with a listener for each way to log in, and an authorizer that allows nothing that no ACL names.

    The plain listener of `bootstrap`, where nobody logs in, is the administrator's: tests prepare and look there.
    """

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "certificates")
        self.certificate, self.key, _ = self.authority.issue("probe-client")
        self.ports = {name: free_port() for name in LISTENERS}
        super().__init__(directory)
        self.config |= self._properties()

    def at(self, listener: str) -> str:
        """`host:port` of a listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    def settings(self, listener: str, user: str = "worker", mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
        """The section `kafka` of the settings of a client that does all right."""
        protocol = LISTENERS[listener]
        section: dict[str, Any] = {"bootstrap_servers": self.at(listener), "security_protocol": protocol}
        if protocol.endswith("SSL"):
            section["ssl_cafile"] = str(self.authority.file)
        if protocol == "SSL":
            section |= {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        if protocol.startswith("SASL"):
            section |= {"sasl_mechanism": mechanism, "sasl_username": user, "sasl_password": PASSWORD}
        return section

    def acls(self, command: str) -> None:
        """Run a `kafka-acls` command line."""
        program, *arguments = shlex.split(command)
        assert program == "kafka-acls", command
        self._run("org.apache.kafka.tools.AclCommand", *arguments)

    def _format_options(self) -> list[str]:
        return [
            option
            for user in USERS
            for kind in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for option in ("--add-scram", f"{kind}=[name={user},password={PASSWORD}]")
        ]

    def _properties(self) -> dict[str, str]:
        broker = self.authority.issue("broker")[2]
        keystores = {
            "EXPIRED": self.authority.issue("expired", expired=True)[2],
            "MISNAMED": self.authority.issue("misnamed", hosts=("kafka.example",))[2],
        }
        urls = [f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()]
        plain = f"PLAINTEXT://127.0.0.1:{self.port}"
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **LISTENERS}
        properties = {
            "listeners": ",".join([plain, f"CONTROLLER://127.0.0.1:{self.controller_port}", *urls]),
            "advertised.listeners": ",".join([plain, *urls]),
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        }
        for name, protocol in LISTENERS.items():
            prefix = f"listener.name.{name.lower()}."
            if protocol.startswith("SASL"):
                properties |= {f"{prefix}{m}.sasl.jaas.config": jaas for m, jaas in MECHANISMS.items()}
            if protocol.endswith("SSL"):
                properties |= {
                    f"{prefix}ssl.keystore.type": "PEM",
                    f"{prefix}ssl.keystore.location": str(keystores.get(name, broker)),
                    f"{prefix}ssl.truststore.type": "PEM",
                    f"{prefix}ssl.truststore.location": str(self.authority.file),
                    f"{prefix}ssl.client.auth": "required" if name == "MUTUAL" else "none",
                }
        return properties

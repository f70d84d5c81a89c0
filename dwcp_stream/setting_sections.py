"""The sections of the settings: one type each, with what every setting is for."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")
"""A bearer token as RFC 6750, section 2.1 has it; shorter ones can be guessed."""

WORKER_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}")

KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
"""Base64 of 32 bytes: the last digit has two bits to spare, which are 0."""


def split_addresses(text: str) -> list[str]:
    """Return addresses that are separated by commas."""
    return [address.strip() for address in text.split(",") if address.strip()]


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens on an address; a name counts only if localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """Base of the sections: unknown keys are errors, and no message repeats a value that may be secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaSettings(Section):
    """How Kafka is reached, and how a worker takes part in its group."""

    bootstrap_servers: str = Field(
        default="127.0.0.1:9092", description="Brokers to start from: host:port, separated by commas."
    )
    client_id: str = Field(default="dwcp-stream", description="Name shown in the broker's logs and quotas.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="How to log in when the protocol is one of the SASL ones."
    )
    sasl_username: str | None = Field(default=None, description="User to log in as.")
    sasl_password: SecretStr | None = Field(
        default=None, description="Password of that user; better given by its variable."
    )
    ssl_cafile: Path | None = Field(
        default=None, description="PEM file of the authorities to trust; the system's when absent."
    )
    ssl_certfile: Path | None = Field(default=None, description="PEM file of the client's own certificate.")
    ssl_keyfile: Path | None = Field(default=None, description="PEM file of the key of that certificate.")
    ssl_key_password: SecretStr | None = Field(default=None, description="Password of that key file.")
    ssl_check_hostname: bool = Field(default=True, description="Whether the broker's certificate must name its host.")
    request_timeout: float = Field(default=40.0, gt=0, description="Seconds to wait for a broker's answer.")
    session_timeout: float = Field(
        default=10.0, gt=0, description="Seconds without heartbeat until a worker counts as dead."
    )
    rebalance_timeout: float = Field(
        default=8.0, gt=0, description="Seconds the group waits for its members to join again at a rebalance."
    )

    @model_validator(mode="after")
    def _complete(self) -> "KafkaSettings":
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError("sasl_username and sasl_password are needed with a SASL security_protocol")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile must be given together")
        return self


class TopicSettings(Section):
    """How topics are named and made."""

    prefix: str = Field(
        default="dwcp.", pattern=r"^[A-Za-z0-9._-]*$", description="What the daemon's own topics begin with."
    )
    partitions: int = Field(default=4, ge=1, description="Partitions of a topic that is created; fixed from then on.")
    replication: int = Field(default=1, ge=1, description="Replicas of a topic that is created; 3 in production.")
    create: bool = Field(
        default=True,
        description="Whether a worker makes the topics that it misses when it starts; if not, it says which and ends.",
    )


class HttpSettings(Section):
    """Where metrics and health are served."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; beyond loopback only with http.token.")
    port: int = Field(
        default=9470,
        ge=0,
        le=65535,
        description="First port; streams take one each in order of name. 0: any free port, logged.",
    )
    token: SecretStr | None = Field(
        default=None,
        description="What every request must bring as `Authorization: Bearer TOKEN`; better given by its variable.",
    )

    @model_validator(mode="after")
    def _guarded(self) -> "HttpSettings":
        if self.token is not None and not TOKEN.fullmatch(self.token.get_secret_value()):
            raise ValueError(
                "token must be 16 or more of the characters A-Z a-z 0-9 - . _ ~ + / (`openssl rand -hex 32`)"
            )
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host or '(empty)'} is reached from other machines, which needs a token: set"
                " DWCP_HTTP__TOKEN to what `openssl rand -hex 32` prints, or http.host to 127.0.0.1"
            )
        return self


class PageSettings(Section):
    """The live page of all streams: `dwcp-stream page`."""

    port: int = Field(
        default=9468, ge=0, le=65535, description="Port of the page, on http.host. 0: any free port, logged."
    )
    workers: str = Field(
        default="",
        description="Addresses of the workers to ask, such as http://10.0.0.5:9470, separated by commas; none: those of"
        " this machine, at http.host and the port of each stream.",
    )

    @field_validator("workers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in split_addresses(value):
            if not WORKER_ADDRESS.fullmatch(address):
                raise ValueError("an address is not like http://10.0.0.5:9470")
        return value


class LogSettings(Section):
    """What is logged, and how."""

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    as_json: bool | None = Field(
        default=None,
        alias="json",
        description="JSON lines (true) or console (false); absent: JSON unless stderr is a terminal.",
    )
    repeat_seconds: float = Field(
        default=60.0,
        ge=0,
        description="A repeated error is written once in this many seconds, with the number left out.",
    )


def _public_keys(keys: dict[str, str]) -> dict[str, str]:
    """Refuse names and texts that are none."""
    for name, text in keys.items():
        if not KEY_ID.fullmatch(name):
            raise ValueError(f"the name {name[:100]!r} has other characters than A-Z a-z 0-9 . _ -, or is too long")
        if not PUBLIC_KEY.fullmatch(text):
            raise ValueError(
                f"{name} is not a public key: base64 of 32 bytes, as `dwcp-stream control keygen` prints it"
            )
    return keys


PublicKeys = Annotated[dict[str, str], AfterValidator(_public_keys)]
"""Public Ed25519 keys by name: base64 of 32 bytes."""


class ControlSettings(Section):
    """Who may command workers through `dwcp.control`."""

    keys: PublicKeys = Field(
        default_factory=dict,
        description="Public Ed25519 keys by name, as `control keygen` prints them; without one the topic is not read.",
    )


class TrainerSettings(Section):
    """When `dwcp-stream trainer` trains models again, and by what it decides which version serves.

    Hours are event time.
    """

    interval_hours: float = Field(default=24.0, ge=0, description="From one training to the next; 0: not by schedule.")
    on_drift: bool = Field(
        default=True,
        description="Whether a model is trained again that has drifted, or whose forecasts were no better than the"
        " last value for a day.",
    )
    collect_hours: float = Field(
        default=24.0, ge=0, description="How long telemetry is collected after that before training on it."
    )
    history_hours: float = Field(default=168.0, gt=0, description="How much telemetry a training is given at most.")
    source: Literal["kafka", "archive"] = Field(
        default="kafka", description="Where it comes from: the stream's topic, or what `archive` has written."
    )
    share: int = Field(
        default=10,
        ge=0,
        le=100,
        description="Percentage of entities that a challenger serves; 0: a better shadow becomes champion at once.",
    )
    block_buckets: int = Field(
        default=36,
        ge=1,
        description="Buckets of realised errors that are taken together, longer than errors stay alike; nothing is"
        " decided before there are 24 such blocks, and no candidate becomes champion before there are 40.",
    )
    challenge_hours: float = Field(
        default=1.0, ge=0, description="How long a challenger serves its share before it can become champion."
    )
    max_age_hours: float = Field(
        default=240.0, gt=0, description="A version about which nothing can be said after so long is dropped."
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=1, description="How likely a version that is no better may ever be promoted."
    )
    look_seconds: float = Field(default=5.0, gt=0, description="Seconds between two looks at what there is to decide.")
    port: int = Field(
        default=9469, ge=0, le=65535, description="Port of its metrics and health, on http.host. 0: any free port."
    )


class ArchiveSettings(Section):
    """Where `dwcp-stream archive` keeps telemetry, and for how long."""

    dir: Path = Field(default=Path("archive"), description="Folder of the Parquet files, by stream and date.")
    retention_days: float = Field(
        default=30.0, ge=1, description="Days of the samples' own time that are kept beside the newest one."
    )
    flush_seconds: float = Field(
        default=300.0, gt=0, description="Seconds between two times that what was read is written and committed."
    )


class CollectSettings(Section):
    """How `dwcp-stream collect` asks exporters."""

    port: int = Field(
        default=9466, ge=0, le=65535, description="Port of its metrics and health, on http.host. 0: any free port."
    )
    timeout: float = Field(
        default=5.0, gt=0, description="Most seconds for a page; never more than nine tenths of the stream's step."
    )
    buffer: int = Field(
        default=100_000,
        ge=1,
        description="Samples kept while no broker takes them; beyond it the oldest are dropped, and counted.",
    )


class FeedbackSettings(Section):
    """Whose judgements of alerts count."""

    keys: PublicKeys = Field(
        default_factory=dict,
        description="Public Ed25519 keys by name, one of which must have signed a judgement that is to count;"
        " without one every judgement counts.",
    )


def _http_url(url: str) -> str:
    """Refuse what is no HTTP address; a message never repeats it, as a webhook's address is a secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with https:// or http:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password; give an Authorization header instead")
    return url


def _secret_url(url: SecretStr) -> SecretStr:
    _http_url(url.get_secret_value())
    return url


class Webhook(Section):
    """One webhook that is told of alerts."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Its name in metrics, logs and its group.")
    url: Annotated[SecretStr, AfterValidator(_secret_url)] = Field(description="Where requests go.")
    template: Literal["generic", "slack", "pagerduty"] = Field(default="generic", description="What it is sent.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Headers of every request.")
    routing_key: SecretStr | None = Field(default=None, description="Integration key, for PagerDuty.")
    severity: Literal["warning", "critical", "emergency"] = Field(
        default="warning", description="The least it is told."
    )

    @model_validator(mode="after")
    def _complete(self) -> "Webhook":
        if (self.template == "pagerduty") != (self.routing_key is not None):
            raise ValueError("routing_key is for the template pagerduty, which needs one")
        return self


class SinkSettings(Section):
    """Where `dwcp-stream alert-sink` sends alerts."""

    alertmanager_urls: list[Annotated[str, AfterValidator(_http_url)]] = Field(
        default_factory=list,
        description="Address of every Alertmanager, such as http://127.0.0.1:9093; all members of a cluster.",
    )
    alertmanager_headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Headers of every request to them, such as Authorization."
    )
    webhooks: list[Webhook] = Field(
        default_factory=list,
        description="Each a table with `name`, `url` (secret), `template` (generic, slack or pagerduty), `headers`"
        " (secret), `routing_key` (secret, for pagerduty) and `severity`, the least it is told.",
    )
    ssl_cafile: Path | None = Field(
        default=None, description="PEM file of the authorities to trust for https; the system's when absent."
    )
    timeout_seconds: float = Field(default=10.0, gt=0, description="Longest wait for an answer.")
    resend_seconds: float = Field(
        default=60.0, gt=0, description="Seconds between two times that Alertmanager is told what fires."
    )
    resolve_seconds: float = Field(
        default=300.0, gt=0, description="An alert that is not sent again for so long is over for Alertmanager."
    )
    stale_seconds: float = Field(
        default=600.0, ge=0, description="An alert that is older and has ended meanwhile is not told any more."
    )
    give_up_hours: float = Field(
        default=24.0, gt=0, description="A message that is not taken for so long is dropped, and counted."
    )
    port: int = Field(
        default=9467, ge=0, le=65535, description="Port of its metrics and health, on http.host. 0: any free port."
    )

    @model_validator(mode="after")
    def _sound(self) -> "SinkSettings":
        names = [webhook.name for webhook in self.webhooks]
        if len(set(names)) < len(names) or any(name.startswith("alertmanager-") for name in names):
            raise ValueError("webhooks need names of their own, which do not begin with alertmanager-")
        if self.resolve_seconds < 2 * self.resend_seconds:
            raise ValueError("resolve_seconds must be at least twice resend_seconds, or alerts end too soon")
        return self


class IncidentSettings(Section):
    """Which alerts are one incident."""

    gap: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds of event time that may lie between the end of an alert and the beginning of the next"
        " one of the"
        " same incident.",
    )
    keep_days: float = Field(
        default=30.0,
        gt=0,
        le=3650,
        description="Days of event time after which a resolved incident is forgotten: alerts that come later still"
        " make a new"
        " one.",
    )


class SilenceSettings(Section):
    """Whose silences count."""

    keys: PublicKeys = Field(
        default_factory=dict,
        description="Public Ed25519 keys by name, one of which must have signed a silence that is to count; without"
        " one every"
        " silence counts.",
    )

"""Every setting of the daemon: one type per section, read from a TOML file and from DWCP_* variables.

A variable overrides the file, and the file overrides the default. The name of a variable is DWCP_ and the
path of the setting in capitals, sections set apart by two underscores: ``kafka.bootstrap_servers`` is
``DWCP_KAFKA__BOOTSTRAP_SERVERS``. docs/settings.md is made from these types.
"""

import ipaddress
import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from dwcp_stream.errors import ConfigError

DEFAULT_FILE = Path("config/dwcp-stream.toml")
PREFIX = "DWCP_"
PROJECT = Path(__file__).resolve().parent.parent
PATH_KEYS = ("streams_dir", "models_dir", "data_dir")
SSL_PATH_KEYS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
SECTION_PATHS = (("kafka", SSL_PATH_KEYS), ("archive", ("dir",)))

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")
"""A bearer token as RFC 6750, section 2.1 has it; shorter ones can be guessed."""

KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
PUBLIC_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
"""Base64 of 32 bytes: the last digit has two bits to spare, which are 0."""

_file: ContextVar[Mapping[str, Any] | None] = ContextVar("settings file", default=None)


def _shipped(relative: str) -> Path:
    """Return a folder of the project: the current directory's, else the one shipped with the code."""
    here = Path(relative)
    return here if here.exists() or not (PROJECT / relative).exists() else PROJECT / relative


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


def _folder_or_url(value: Any) -> Path | str:
    """Take a folder, or an fsspec URL as it is."""
    if isinstance(value, str) and "://" in value:
        return value
    if not isinstance(value, str | Path):
        raise ValueError("must be a folder or a URL")  # noqa: TRY004  what pydantic takes for a wrong value
    return Path(value)


class ControlSettings(Section):
    """Who may command workers through `dwcp.control`."""

    keys: PublicKeys = Field(
        default_factory=dict,
        description="Public Ed25519 keys by name, as `control keygen` prints them; without one the topic is not read.",
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


class FeedbackSettings(Section):
    """Whose judgements of alerts count."""

    keys: PublicKeys = Field(
        default_factory=dict,
        description="Public Ed25519 keys by name, one of which must have signed a judgement that is to count;"
        " without one every judgement counts.",
    )


class Settings(BaseSettings):
    """All settings. Use `load_settings` to read the file and the environment with errors made for people."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    topics: TopicSettings = Field(default_factory=TopicSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    control: ControlSettings = Field(default_factory=ControlSettings)
    archive: ArchiveSettings = Field(default_factory=ArchiveSettings)
    feedback: FeedbackSettings = Field(default_factory=FeedbackSettings)
    app_id: str = Field(
        default="dwcp-stream",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Name of the consumer group and of the state topics; each stream's name is added to it.",
    )
    instance_id: str | None = Field(
        default=None,
        description="Fixed name of this worker in its group, so that a quick restart moves no partitions"
        " (static membership).",
    )
    checkpoint_interval: float = Field(
        default=5.0, gt=0, description="Seconds between two checkpoints of a partition's state."
    )
    models_interval: float = Field(
        default=1.0, gt=0, description="Seconds between two looks at which versions the models' aliases point at."
    )
    max_poll_records: int = Field(
        default=4000, ge=1, description="Most records of one chunk; bounds memory and the time of a chunk."
    )
    threads: int = Field(
        default=0, ge=0, description="Chunks processed at once, each of another partition; 0: as many as cores."
    )
    buffer_cap: int = Field(default=16 << 20, ge=16384, description="Largest advised socket buffer in bytes.")
    liveness_seconds: float = Field(
        default=60.0,
        gt=0,
        description="A partition with lag whose position stands still this long is not alive.",
    )
    streams_dir: Path = Field(
        default_factory=lambda: _shipped("config/streams"), description="Folder of the stream definitions."
    )
    models_dir: Annotated[Path | str, PlainValidator(_folder_or_url)] = Field(
        default_factory=lambda: _shipped("models"),
        description="Folder of the model repository, or an fsspec URL such as s3://bucket/models.",
    )
    model_keys: PublicKeys = Field(
        default_factory=dict,
        description="Public Ed25519 keys by name, one of which must have signed a version that is to be used"
        " (`models sign`); none: any version is used that verifies.",
    )
    data_dir: Path = Field(
        default=Path("var"), description="Folder for the worker's own files; nothing in it has to be kept."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, the file being loaded. No dotenv, no secrets folder."""
        del dotenv_settings, file_secret_settings
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, init_kwargs=dict(_file.get() or {})),
        )


def variable(*path: str) -> str:
    """Return the environment variable of a setting, for example ``DWCP_HTTP__PORT`` for ("http", "port")."""
    return PREFIX + "__".join(part.upper() for part in path)


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings from a file and the environment.

    Parameters
    ----------
    path
        TOML file. None: DWCP_CONFIG, else config/dwcp-stream.toml if it is there, else only the environment.
        Relative folders in the file are relative to the file.

    Raises
    ------
    ConfigError
        The file cannot be read, or a setting is wrong; names the file, key and variable, never the value.
    """
    given = path or (Path(os.environ["DWCP_CONFIG"]) if os.environ.get("DWCP_CONFIG") else None)
    file = given or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    token = _file.set(_read(file) if file else {})
    try:
        return Settings()
    except ValidationError as error:
        raise _explain(error, file) from None  # the cause would print the values, secrets too
    except SettingsError:
        raise ConfigError(
            "a section's variable is not a JSON object",
            where="environment",
            remedy=f"Set single settings instead, such as {variable('http', 'port')}=9470",
        ) from None
    finally:
        _file.reset(token)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="Give --config FILE, or unset DWCP_CONFIG",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"is not TOML: {error}", where=str(path), remedy="Correct that line") from error
    parts = [(data.get(name), keys) for name, keys in SECTION_PATHS]
    for section, keys in ((data, PATH_KEYS), *((s if isinstance(s, dict) else {}, keys) for s, keys in parts)):
        for key in keys:
            if isinstance(section.get(key), str) and "://" not in section[key]:
                section[key] = path.parent / section[key]
    return data


def _explain(error: ValidationError, file: Path | None) -> ConfigError:
    """Turn pydantic's first complaint into one sentence with key, variable and remedy."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = [str(part) for part in first["loc"]]
    key, name = ".".join(path) or "settings", variable(*path)
    where = f"{name} (environment)" if name in os.environ else f"{file or 'settings'}, {key}"
    if first["type"] == "extra_forbidden":
        return ConfigError(
            f"there is no setting {key!r}",
            where=where,
            remedy="`dwcp-stream config --help` and docs/settings.md list them",
        )
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(message[0].lower() + message[1:], where=where, remedy=f"Set it in the file or by {name}")


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the DWCP_* variables that no setting reads, sorted; a misspelt one would else go unnoticed."""
    known = {variable("config"), variable("debug")}
    for name, field in Settings.model_fields.items():
        known.add(variable(name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for key, inner in field.annotation.model_fields.items():
                known.add(variable(name, inner.alias or key))
    return sorted(
        name for name in environ if name.startswith(PREFIX) and name not in known and not name.startswith("DWCP_TEST_")
    )


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments that aiokafka's consumer, producer and admin client have in common.

    Raises
    ------
    ConfigError
        A certificate file cannot be loaded.
    """
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": kafka.client_id,
        "request_timeout_ms": int(kafka.request_timeout * 1000),
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
    return options


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """Return the TLS context for the brokers: theirs is checked, the client's own certificate loaded."""
    try:
        context = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
        context.check_hostname = kafka.ssl_check_hostname
        if kafka.ssl_certfile and kafka.ssl_keyfile:
            password = kafka.ssl_key_password.get_secret_value() if kafka.ssl_key_password else None
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"a certificate file cannot be used: {error.strerror or error}",
            where="kafka.ssl_*",
            remedy="Check ssl_cafile, ssl_certfile, ssl_keyfile and ssl_key_password",
        ) from error
    return context

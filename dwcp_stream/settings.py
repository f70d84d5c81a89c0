"""Every setting of the daemon: one type per section, read from a TOML file and from DWCP_* variables.

A variable overrides the file, and the file overrides the default. The name of a variable is DWCP_ and the
path of the setting in capitals, sections set apart by two underscores: ``kafka.bootstrap_servers`` is
``DWCP_KAFKA__BOOTSTRAP_SERVERS``. docs/settings.md is made from these types.
"""

import os
import ssl
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from dwcp_stream.errors import ConfigError
from dwcp_stream.setting_sections import (
    ArchiveSettings,
    CollectSettings,
    ControlSettings,
    FeedbackSettings,
    HttpSettings,
    IncidentSettings,
    KafkaSettings,
    LogSettings,
    PageSettings,
    PublicKeys,
    Section,
    SilenceSettings,
    SinkSettings,
    TopicSettings,
    TrainerSettings,
)

DEFAULT_FILE = Path("config/dwcp-stream.toml")
PREFIX = "DWCP_"
PROJECT = Path(__file__).resolve().parent.parent
PACKED = Path(__file__).resolve().parent / "shipped"
"""Where a wheel has the folders `config` and `models`; there is none in a source checkout."""
PATH_KEYS = ("streams_dir", "models_dir", "data_dir")
SSL_PATH_KEYS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
SECTION_PATHS = (("kafka", SSL_PATH_KEYS), ("archive", ("dir",)), ("sinks", ("ssl_cafile",)))

_file: ContextVar[Mapping[str, Any] | None] = ContextVar("settings file", default=None)


def shipped(relative: str) -> Path:
    """Return a file or folder that comes with the code: inside the installed package, or in the source checkout."""
    packed = PACKED / relative
    return packed if PACKED.is_dir() else PROJECT / relative


def _found(relative: str) -> Path:
    """Return a folder of the current directory, else the one shipped with the code.

    With stream definitions of its own, a directory is a site of its own: models come from and go there too.
    """
    here = Path(relative)
    own = here.exists() or Path("config/streams").is_dir() or not shipped(relative).exists()
    return here if own else shipped(relative)


def own_folder(path: Path, relative: str) -> Path:
    """Return a folder to write to: `path`, unless it is what the package ships, then that of the current directory."""
    return Path(relative) if path == shipped(relative) else path


def _folder_or_url(value: Any) -> Path | str:
    """Take a folder, or an fsspec URL as it is."""
    if isinstance(value, str) and "://" in value:
        return value
    if not isinstance(value, str | Path):
        raise ValueError("must be a folder or a URL")  # noqa: TRY004  what pydantic takes for a wrong value
    return Path(value)


class Settings(BaseSettings):
    """All settings. Use `load_settings` to read the file and the environment with errors made for people."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    topics: TopicSettings = Field(default_factory=TopicSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    page: PageSettings = Field(default_factory=PageSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    control: ControlSettings = Field(default_factory=ControlSettings)
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    archive: ArchiveSettings = Field(default_factory=ArchiveSettings)
    collect: CollectSettings = Field(default_factory=CollectSettings)
    feedback: FeedbackSettings = Field(default_factory=FeedbackSettings)
    sinks: SinkSettings = Field(default_factory=SinkSettings)
    incidents: IncidentSettings = Field(default_factory=IncidentSettings)
    silences: SilenceSettings = Field(default_factory=SilenceSettings)
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
        default_factory=lambda: _found("config/streams"), description="Folder of the stream definitions."
    )
    models_dir: Annotated[Path | str, PlainValidator(_folder_or_url)] = Field(
        default_factory=lambda: _found("models"),
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

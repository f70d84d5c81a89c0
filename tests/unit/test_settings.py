"""Settings: sources and their order, errors for people, secrets, options for aiokafka, made pages."""

import inspect
import os
import tomllib
import traceback
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from dwcp_stream import settings_docs
from dwcp_stream.errors import ConfigError
from dwcp_stream.setting_sections import HttpSettings, KafkaSettings
from dwcp_stream.settings import Settings, kafka_client_options, load_settings, unknown_variables

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DWCP_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some" / "dwcp.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_without_file_and_variables_the_defaults_hold_and_the_shipped_folders_are_found():
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.http.host == "127.0.0.1"
    assert settings.streams_dir == ROOT / "config/streams"
    assert settings.models_dir == ROOT / "models"


def test_a_variable_overrides_the_file_and_the_file_the_default(tmp_path, monkeypatch):
    file = written(tmp_path, "checkpoint_interval = 2\n[http]\nport = 1234\nhost = '::1'\n[log]\njson = false\n")
    monkeypatch.setenv("DWCP_HTTP__PORT", "4321")
    settings = load_settings(file)
    assert (settings.checkpoint_interval, settings.http.port, settings.http.host) == (2, 4321, "::1")
    assert settings.log.as_json is False
    assert settings.topics.partitions == 4


def test_arguments_override_variables(monkeypatch):
    monkeypatch.setenv("DWCP_KAFKA__BOOTSTRAP_SERVERS", "other:9092")
    assert Settings(kafka=KafkaSettings(bootstrap_servers="mine:9092")).kafka.bootstrap_servers == "mine:9092"


def test_a_file_does_not_leak_into_later_settings(tmp_path):
    load_settings(written(tmp_path, "max_poll_records = 7"))
    assert Settings().max_poll_records == 4000


def test_the_variable_names_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DWCP_CONFIG", str(written(tmp_path, "max_poll_records = 7")))
    assert load_settings().max_poll_records == 7


def test_folders_in_the_file_are_relative_to_it(tmp_path):
    file = written(tmp_path, "streams_dir = 'here'\nmodels_dir = '/abs'\n[kafka]\nssl_cafile = 'ca.pem'\n")
    settings = load_settings(file)
    assert settings.streams_dir == file.parent / "here"
    assert settings.models_dir == Path("/abs")
    assert settings.kafka.ssl_cafile == file.parent / "ca.pem"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[http]\nport = 99999", ["dwcp.toml, http.port", "65535", "DWCP_HTTP__PORT"]),
        ("[kafka]\nnix = 1", ["kafka.nix", "no setting"]),
        ("nix = 1", ["'nix'", "no setting"]),
        ("[kafka]\nsecurity_protocol = 'SASL_SSL'", ["kafka", "sasl_username"]),
        ("[kafka]\nssl_certfile = 'x'", ["ssl_keyfile", "together"]),
        ("a = = 1", ["is not TOML", "line 1"]),
        ("checkpoint_interval = 0", ["checkpoint_interval", "greater than 0"]),
    ],
)
def test_a_wrong_file_is_told_with_file_key_and_remedy(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(written(tmp_path, text))
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value)


def test_a_wrong_variable_is_told_by_its_name(monkeypatch):
    monkeypatch.setenv("DWCP_TOPICS__PARTITIONS", "many")
    with pytest.raises(ConfigError, match=r"DWCP_TOPICS__PARTITIONS \(environment\)"):
        load_settings()


def test_an_absent_file_is_an_error_when_it_was_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")


def test_no_error_repeats_a_secret(tmp_path, monkeypatch):
    for name, value in {
        "DWCP_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "DWCP_KAFKA__SASL_PASSWORD": "hunter2hunter2",
        "DWCP_KAFKA": "hunter2hunter2",
    }.items():
        monkeypatch.setenv(name, value)
        try:
            shown = repr(load_settings())
        except ConfigError as error:
            shown = "".join(traceback.format_exception(error))
        assert "hunter2" not in shown


def test_variables_that_nothing_reads_are_found():
    names = {
        "DWCP_HTTP__PORT": "1",
        "DWCP_HTTPS__PORT": "1",
        "DWCP_LOG__JSON": "1",
        "DWCP_TEST_BOOTSTRAP": "x",
        "DWCP_CONFIG": "x",
        "PATH": "x",
    }
    assert unknown_variables(names) == ["DWCP_HTTPS__PORT"]


@pytest.mark.parametrize("client", [AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient])
def test_every_client_takes_the_options(client):
    kafka = KafkaSettings(security_protocol="SASL_SSL", sasl_username="u", sasl_password="p")
    options = kafka_client_options(Settings(kafka=kafka))
    assert set(options) <= set(inspect.signature(client.__init__).parameters)
    assert options["sasl_plain_password"] == "p"
    assert options["ssl_context"].check_hostname


def test_plain_options_hold_nothing_of_tls_and_login():
    options = kafka_client_options(Settings(kafka=KafkaSettings(sasl_password="p")))
    assert not [key for key in options if key.startswith(("ssl", "sasl"))]


def test_an_unusable_certificate_is_a_config_error(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    kafka = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match="certificate"):
        kafka_client_options(Settings(kafka=kafka))


def test_every_setting_has_a_description_and_its_variable_works(monkeypatch):
    for option in settings_docs.options():
        assert option.help.endswith("."), option.path
        if option.default is None or option.kind == "path":
            continue
        text = str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
        monkeypatch.setenv(option.variable, text)
    assert load_settings() == Settings()
    assert not unknown_variables({option.variable: "" for option in settings_docs.options()})


def test_the_settings_page_is_current():
    assert (ROOT / "docs/settings.md").read_text() == "\n".join(settings_docs.page()) + "\n", "run `make docs`"


def test_the_settings_file_is_current_and_each_of_its_lines_is_the_default(tmp_path):
    shipped = (ROOT / "config/dwcp-stream.toml").read_text()
    assert shipped == "\n".join(settings_docs.file()) + "\n", "run `make docs`"
    active = [
        line.removeprefix("# ") if " = " in line and "..." not in line else line
        for line in shipped.splitlines()
        if not line.startswith("# ") or line.split(" = ")[0].removeprefix("# ").isidentifier()
    ]
    data = tomllib.loads("\n".join(line for line in active if not line.startswith("#")))
    assert data["http"]["port"] == HttpSettings().port
    config = tmp_path / "config"
    config.mkdir()
    (config / "dwcp-stream.toml").write_text("\n".join(active))
    loaded = load_settings(config / "dwcp-stream.toml")
    folders = {"streams_dir": True, "models_dir": True, "data_dir": True, "archive": {"dir"}}
    assert loaded.model_dump(exclude=folders) == Settings().model_dump(exclude=folders)
    assert loaded.models_dir.resolve() == tmp_path / "models"
    assert loaded.archive.dir.resolve() == tmp_path / "archive"

"""TLS, logins and access control against a broker that insists on them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dwcp_stream.cli.main import run as run_command
from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.topics import admin_client
from dwcp_stream.settings import Settings, variable
from tests.integration import probe
from tests.integration.harness import consumer_partitions, read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.integration.workers import PARTITIONS, Run, Site, WorkerProcess
from tests.kafka.certificates import Authority
from tests.kafka.secured import PASSWORD, SecuredKafka

pytestmark = pytest.mark.kafka

TELEMETRY = Telemetry(20, 120)
PRINCIPALS = {"SASLTLS": "User:worker", "MUTUAL": "User:CN=probe-client"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory) -> Iterator[SecuredKafka]:
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as kafka:
        yield kafka


@pytest.fixture
def site(secured, tmp_path, unique) -> Iterator[Site]:
    """A source topic, made by the administrator."""
    site = Site(secured.bootstrap, tmp_path, unique)
    yield site
    site.stop()


def variables(section: dict[str, Any]) -> dict[str, str]:
    """The section `kafka` as environment variables."""
    return {variable("kafka", key): str(value) for key, value in section.items()}


def program(run: Run, *arguments: str, code: int = 0, **more: str) -> str:
    """Run `dwcp-stream` as a process; its stdout, after a look for the password in all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "dwcp_stream", *arguments],
        env={**os.environ, **run.environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert PASSWORD not in done.stdout + done.stderr
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stdout + done.stderr


async def give_rights(secured: SecuredKafka, run: Run, principal: str, role: str = "worker") -> list[str]:
    """Run what `topics acls` prints, as an administrator does."""
    lines = program(
        run, "topics", "acls", probe.STREAM, "--principal", principal, "--for", role,
        DWCP_KAFKA__BOOTSTRAP_SERVERS=secured.bootstrap, DWCP_KAFKA__SECURITY_PROTOCOL="PLAINTEXT",
    ).splitlines()  # fmt: skip
    await asyncio.gather(*(asyncio.to_thread(secured.acls, line) for line in lines))
    return lines


@pytest.mark.parametrize("listener", ["SASLTLS", pytest.param("MUTUAL", marks=pytest.mark.full)])
async def test_a_worker_with_the_rights_it_is_said_to_need_loses_nothing_and_can_do_no_more(
    secured, site, listener
) -> None:
    await site.create()
    await site.write(TELEMETRY, 0, 60)
    run = await site.run(**variables(secured.settings(listener)))
    await give_rights(secured, run, PRINCIPALS[listener])
    first = run.start()
    await run.ready(first)
    await run.caught_up()
    first.kill()
    await site.write(TELEMETRY, 60)
    run.start()
    final = await run.finish()
    assert final.transitions == TELEMETRY.transitions()
    assert sum(final.positions.values()) == sum((await run.ends(run.source)).values())

    foreign = await site.run()
    mine = Settings(kafka=secured.settings(listener))
    async with admin_client(mine) as admin:
        seen = await admin.list_topics()
    assert run.topic("anomalies") in seen
    assert not set(seen) & {foreign.topic("anomalies"), run.topic("control")}
    for topic in (foreign.topic("anomalies"), run.topic("control"), run.source):
        with pytest.raises(BrokerError, match="refuse"):
            async with producer_client(mine) as producer:
                await producer.send_and_wait(topic, b"forged", partition=0)
    hidden = await consumer_partitions(site.settings, foreign.topic("anomalies"))
    async with consumer_client(mine) as consumer:
        assert await asyncio.wait_for(consumer.end_offsets(await consumer_partitions(mine, run.source)), 10)
        with pytest.raises(TimeoutError):  # the client looks for ever for a topic that the broker does not show
            await asyncio.wait_for(consumer.end_offsets(hidden), 3)
    with pytest.raises(BrokerError, match="refuse"):
        async with consumer_client(mine, run.source, group_id=foreign.group) as consumer:
            await consumer.getone()
    for topic in (foreign.topic("anomalies"), run.topic("control")):
        assert await read_topic(site.settings, topic) == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("listener", ["SASL", "SASLTLS"])
async def test_every_way_to_log_in_works(secured, listener, mechanism) -> None:
    async with admin_client(Settings(kafka=secured.settings(listener, mechanism=mechanism))) as admin:
        assert (await admin.describe_cluster())["brokers"]


@pytest.mark.full
async def test_commands_of_operator_and_sender_work_with_the_rights_of_their_roles(secured, site, tmp_path) -> None:
    run = await site.run(**variables(secured.settings("SASLTLS", "operator", "SCRAM-SHA-256")))
    await give_rights(secured, run, "User:operator", "operator")
    await give_rights(secured, run, "User:sender", "sender")
    created = json.loads(program(run, "topics", "create", "--json"))
    assert created["created"] == [run.source]
    listed = json.loads(program(run, "topics", "list", "--json"))["topics"]
    assert all(topic["exists"] and topic["differences"] == [] for topic in listed)
    data = tmp_path / "data.csv"
    data.write_text("ts,id,value,requests\n1700000000,n1,0.5,1\n1700000001,n1,0.5,2\n")
    replay = ("replay", probe.STREAM, "--data", str(data), "--speed", "max", "--json")
    assert "may not write to it" in program(run, *replay, code=1)
    assert json.loads(program(run, *replay, DWCP_KAFKA__SASL_USERNAME="sender"))["sent"] == 2
    report = json.loads(program(run, "doctor", "--json"))
    assert (report["ok"], report["records"][0]["records"]) == (True, 2)


Spoil = Callable[[SecuredKafka, Path], dict[str, Any]]


def without(section: dict[str, Any], *keys: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys} | more


def _foreign_authority(kafka: SecuredKafka, directory: Path) -> dict[str, Any]:
    return without(kafka.settings("SASLTLS"), ssl_cafile=str(Authority(directory, "foreign").file))


def _foreign_client(kafka: SecuredKafka, directory: Path) -> dict[str, Any]:
    certificate, key, _ = Authority(directory, "foreign").issue("intruder")
    return without(kafka.settings("MUTUAL"), ssl_certfile=str(certificate), ssl_keyfile=str(key))


def _expired_client(kafka: SecuredKafka, directory: Path) -> dict[str, Any]:
    certificate, key, _ = kafka.authority.issue("late", expired=True)
    return without(kafka.settings("MUTUAL"), ssl_certfile=str(certificate), ssl_keyfile=str(key))


WRONG: dict[str, tuple[Spoil, str, str]] = {
    "password": (
        lambda k, _: without(k.settings("SASLTLS"), sasl_password="wrong-one-7d"),
        "the login of worker is refused", "DWCP_KAFKA__SASL_PASSWORD",
    ),
    "plain password": (
        lambda k, _: without(k.settings("SASL", mechanism="PLAIN"), sasl_password="wrong-one-7d"),
        "the login of worker is refused", "DWCP_KAFKA__SASL_PASSWORD",
    ),
    "authority": (_foreign_authority, "certificate is refused: unable to get local issuer", "DWCP_KAFKA__SSL_CAFILE"),
    "expired": (lambda k, _: k.settings("EXPIRED"), "certificate has expired", "needs a new certificate"),
    "host name": (lambda k, _: k.settings("MISNAMED"), "not valid for '127.0.0.1'", "advertised.listeners"),
    "no client certificate": (
        lambda k, _: without(k.settings("MUTUAL"), "ssl_certfile", "ssl_keyfile"),
        "asks for a client certificate", "DWCP_KAFKA__SSL_CERTFILE",
    ),
    "foreign client certificate": (_foreign_client, "refuses the client certificate", "ssl.truststore"),
    "expired client certificate": (_expired_client, "refuses the client certificate", "valid"),
    "plain text to TLS": (
        lambda k, _: {"bootstrap_servers": k.at("MUTUAL")},
        "the broker speaks TLS there, PLAINTEXT does not", "DWCP_KAFKA__SECURITY_PROTOCOL",
    ),
    "TLS to plain text": (
        lambda k, _: without(k.settings("MUTUAL"), bootstrap_servers=k.bootstrap),
        "the broker does not speak TLS there", "DWCP_KAFKA__SECURITY_PROTOCOL",
    ),
    "no login": (
        lambda k, _: {"bootstrap_servers": k.at("SASL")},
        "ends connections that speak PLAINTEXT", "SASL_PLAINTEXT",
    ),
    "login where there is none": (
        lambda k, _: without(k.settings("SASL"), bootstrap_servers=k.bootstrap),
        "asks for no login", "DWCP_KAFKA__SECURITY_PROTOCOL",
    ),
    "no rights": (lambda k, _: k.settings("SASLTLS", "sender"), "may not see it", "topics acls"),
}  # fmt: skip


@pytest.fixture
def wrong(request, secured, site, tmp_path, monkeypatch) -> tuple[dict[str, str], str, str]:
    """The environment of a client with one thing wrong; what must be said, and the remedy."""
    spoil, what, remedy = WRONG[request.param]
    environment = {
        **variables(spoil(secured, tmp_path / "foreign")),
        "DWCP_STREAMS_DIR": str(tmp_path / "streams"),
        "DWCP_MODELS_DIR": str(tmp_path / "models"),
        "DWCP_DATA_DIR": str(tmp_path / "data"),
        "DWCP_TOPICS__PREFIX": site.source[:11] + ".",
    }
    return environment, what, remedy


@pytest.fixture
def left_open() -> Iterator[None]:
    """aiokafka closes a connection whose login fails without waiting, so TLS may outlive the command's event loop."""
    yield
    gc.collect()  # here, where the warnings are ignored


@pytest.mark.filterwarnings("ignore:unclosed (transport|<socket):ResourceWarning")
@pytest.mark.usefixtures("left_open")
@pytest.mark.parametrize("wrong", WRONG, indirect=True)
def test_what_is_wrong_is_one_line_with_the_remedy(wrong, monkeypatch, capfd) -> None:
    environment, what, remedy = wrong
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run_command(["topics", "list"]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert what in lines[0]
    assert remedy in lines[0]
    assert run_command(["doctor", "--json"]) == 1
    (found,) = [f for f in json.loads(capfd.readouterr().out)["findings"] if f["check"] == "broker"]
    assert found["level"] == "problem"
    assert what in found["what"]
    assert remedy in found["remedy"]


def as_processes(environment: dict[str, str], what: str, remedy: str, *commands: tuple[str, ...]) -> None:
    """Each command must end by itself, with one line and no traceback."""
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "dwcp_stream", *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 1, printed
        assert "Traceback" not in printed
        errors = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # beside a worker's log
        if command[0] != "doctor":
            assert len(errors) == 1, printed
            assert errors[0].startswith("error: ")
        if command[0] == "worker":
            what = what.replace("may not see it", "this user lacks Read on topic")
        assert what in " ".join(printed.split()), printed
        assert PASSWORD not in printed
        assert "wrong-one-7d" not in printed


@pytest.mark.parametrize("wrong", ["password", "plain text to TLS"], indirect=True)
def test_a_worker_ends_with_that_line(wrong) -> None:
    as_processes(*wrong, ("worker", probe.STREAM))


@pytest.mark.full
@pytest.mark.parametrize("wrong", WRONG, indirect=True)
def test_every_command_ends_with_that_line(wrong) -> None:
    as_processes(*wrong, ("topics", "list"), ("doctor",), ("worker", probe.STREAM))


async def test_secrets_are_in_no_output(secured, site, tmp_path) -> None:
    await site.create()
    await site.write(TELEMETRY, 0, 30)
    token = "token-0123456789-kept-secret"
    section = without(secured.settings("SASLTLS", mechanism="PLAIN"), "sasl_password")
    run = await site.run(
        **variables(section),
        DWCP_LOG__LEVEL="debug",
        DWCP_HTTP__TOKEN=token,
        DWCP_KAFKA__SSL_KEY_PASSWORD="key-pass-51",
    )
    file = tmp_path / "dwcp.toml"  # one secret by file, two by variables
    file.write_text(f'[kafka]\nsasl_password = "{PASSWORD}"\n')
    run.environment["DWCP_CONFIG"] = str(file)
    await give_rights(secured, run, "User:worker")
    worker = run.start()
    await wait_until(lambda: "partition recovered" in worker.log.read_text(), worker.tail)
    await run.caught_up()
    cmdline = await asyncio.to_thread(Path(f"/proc/{worker.process.pid}/cmdline").read_text)
    unguarded = await worker.get("/metrics")
    metrics = await asyncio.to_thread(guarded, worker, "/metrics", token)
    assert unguarded[0] == 401
    assert "dwcp_samples_total" in metrics
    shown = program(run, "config", "show", "--json")
    shown += program(run, "--debug", "doctor", "--json", code=1)
    broken = {"DWCP_KAFKA__BOOTSTRAP_SERVERS": secured.at("MUTUAL")}
    shown += program(run, "--debug", "topics", "list", code=1, **broken)
    assert "Traceback" in shown
    log = worker.log.read_text()
    assert "SaslAuthenticate" in log, "aiokafka logs its requests at this level"
    for secret in (PASSWORD, token, "key-pass-51"):
        for place, text in {"log": log, "metrics": metrics, "commands": shown, "cmdline": cmdline}.items():
            assert secret not in text, f"{secret} is in {place}"


def guarded(worker: WorkerProcess, path: str, token: str) -> str:
    """What the worker answers to somebody with the token."""
    url = f"http://127.0.0.1:{worker.port}{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()


@pytest.mark.full
@pytest.mark.parametrize(
    ("operation", "resource"),
    [("Write", "anomalies"), ("Write", "changelog"), ("Read", "source"), ("Read", "group")],
)
async def test_a_running_worker_whose_rights_are_taken_away_says_so(secured, site, operation, resource) -> None:
    await site.create()
    await site.write(TELEMETRY, 0, 30)
    run = await site.run(**variables(secured.settings("SASLTLS")), DWCP_LIVENESS_SECONDS="20")
    await give_rights(secured, run, "User:worker")
    worker = run.start()
    await run.ready(worker)
    await run.caught_up()
    name = {"source": run.source, "changelog": run.changelog, "group": run.group}.get(resource) or run.topic(resource)
    kind = "group" if resource == "group" else "topic"
    secured.acls(
        f"kafka-acls --bootstrap-server {secured.bootstrap} --remove --force --allow-principal User:worker"
        f" --operation {operation} --{kind} {name}"
    )
    await site.write(TELEMETRY, 30, 60)
    lacks = f"{operation} on {kind} {name}"

    async def told() -> bool:
        status, body = await worker.get("/health/ready")
        return lacks in worker.log.read_text() and (not worker.running or (status == 503 and lacks in body))

    await wait_until(told, worker.tail)
    await give_rights(secured, run, "User:worker")
    await site.write(TELEMETRY, 60)
    if not worker.running:
        assert worker.process.returncode == 1
        run.start()
    final = await run.finish()
    assert final.transitions == TELEMETRY.transitions()
    assert len(final.positions) == PARTITIONS

"""The rights that are asked for, and the commands that give them."""

import json
import shlex

import pytest

from dwcp_stream.asyncapi.payloads import MESSAGES
from dwcp_stream.cli.main import run
from dwcp_stream.kafka.catalogue import OWN, WRITTEN
from dwcp_stream.kafka.rights import commands, incident_rights, operator_rights, sender_rights, worker_rights


def test_a_worker_may_write_what_the_asyncapi_document_says_it_sends():
    assert {name for name, messages in MESSAGES.items() if messages[0].types} == WRITTEN | {"incidents"}
    rights = worker_rights("in", "state", "group", "journal", "p.")
    assert {(r.operation, r.resource, r.name) for r in rights} == {
        ("Read", "topic", "in"),
        ("Read", "topic", "state"),
        ("Read", "group", "group"),
        ("Write", "topic", "state"),
        ("Create", "topic", "state"),
        ("Describe", "topic", "journal"),
        *(("Write", "topic", f"p.{name}") for name in WRITTEN),
    }


def test_a_worker_that_is_commanded_may_read_commands_and_write_none():
    plain = worker_rights("in", "state", "group", "journal", "p.")
    more = set(worker_rights("in", "state", "group", "journal", "p.", commanded=True)) - set(plain)
    assert {(r.operation, r.resource, r.name) for r in more} == {("Read", "topic", "p.control")}


def test_sender_and_operator_write_nothing_of_the_workers():
    assert [(r.operation, r.name) for r in sender_rights("in")] == [("Write", "in")]
    rights = operator_rights("in", "state", "p.")
    assert not [r for r in rights if r.operation == "Write"]
    created = {r.name for r in rights if r.operation == "Create"}
    assert created == {"in", *(f"p.{own[0]}" for own in OWN)}
    assert {r.name for r in rights if r.operation == "Read"} == {"in"}


def test_commands_are_one_per_operation_and_safe_for_a_shell():
    rights = worker_rights("in", "state", "group", "journal", "p.")
    lines = commands(rights, "User:CN=a b;rm -rf *", "kafka:9093")
    given = set()
    for line in lines:
        words = shlex.split(line)
        head = ["kafka-acls", "--bootstrap-server", "kafka:9093", "--add", "--allow-principal", "User:CN=a b;rm -rf *"]
        assert words[: len(head)] == head
        operation, *resources = words[len(head) + 1 :]
        given |= {(operation, k.removeprefix("--"), n) for k, n in zip(resources[::2], resources[1::2], strict=True)}
    assert given == {(r.operation, r.resource, r.name) for r in rights}
    assert len(lines) == len({operation for operation, _, _ in given})


def test_the_command_follows_the_settings(monkeypatch, capsys):
    monkeypatch.setenv("DWCP_TOPICS__PREFIX", "eu.")
    monkeypatch.setenv("DWCP_APP_ID", "blue")
    assert run(["topics", "acls", "node", "--principal", "User:w", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = {right["name"] for right in result["rights"]}
    assert names == {
        "eu.dwcp.telemetry.node",
        "blue-node",
        "blue-node-state-changelog",
        "blue-node-repartition",
        *(f"eu.{name}" for name in WRITTEN),
    }
    assert run(["topics", "acls", "node", "--principal", "User:w"]) == 0
    assert capsys.readouterr().out.splitlines() == result["commands"]


def test_an_archiver_reads_the_telemetry_in_a_group_of_its_own_and_writes_nothing(monkeypatch, capsys):
    monkeypatch.setenv("DWCP_APP_ID", "blue")
    assert run(["topics", "acls", "node", "--principal", "User:a", "--for", "archiver", "--json"]) == 0
    rights = {(r["operation"], r["resource"], r["name"]) for r in json.loads(capsys.readouterr().out)["rights"]}
    assert rights == {("Read", "topic", "dwcp.telemetry.node"), ("Read", "group", "blue-archive-node")}


@pytest.mark.parametrize("principal", ["node", "User:", ":node"])
def test_a_principal_has_a_type_and_a_name(capsys, principal):
    assert run(["topics", "acls", "node", "--principal", principal]) == 2
    assert "is not TYPE:NAME" in capsys.readouterr().err


def test_the_incident_service_writes_nothing_but_incidents() -> None:
    rights = incident_rights("app-incidents", "p.")
    assert [(r.operation, r.name) for r in rights if r.operation != "Read"] == [("Write", "p.incidents")]
    read = {r.name for r in rights if r.operation == "Read"}
    assert read == {"p.incidents", "p.silences", "p.anomalies", "app-incidents"}

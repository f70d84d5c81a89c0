"""A worker started wrongly says what is wrong, where and what to do; nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dwcp_stream.kafka.embedded import free_port


def worker(tmp_path, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "dwcp_stream", "worker", *arguments],
        env={**os.environ, "DWCP_DATA_DIR": str(tmp_path), **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_unknown_stream_names_those_there_are(tmp_path):
    done = worker(tmp_path, "consensu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "consensus, link, node" in done.stderr


def test_a_stream_and_all_is_bad_usage(tmp_path):
    assert worker(tmp_path, "node", "--all").returncode == 2


def test_without_a_broker_it_says_so(tmp_path):
    done = worker(tmp_path, "node", DWCP_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "no broker answers" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
def test_without_its_topic_it_says_how_to_make_it(kafka, tmp_path, topic_prefix):
    definition = tmp_path / "streams" / "node.toml"
    definition.parent.mkdir()
    text = Path("config/streams/node.toml").read_text()
    definition.write_text(text.replace('topic = "dwcp.telemetry.node"', f'topic = "{topic_prefix}absent"'))
    done = worker(
        tmp_path, "node",
        DWCP_KAFKA__BOOTSTRAP_SERVERS=kafka.bootstrap,
        DWCP_TOPICS__PREFIX=topic_prefix,
        DWCP_TOPICS__CREATE="false",
        DWCP_STREAMS_DIR=str(definition.parent),
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{topic_prefix}absent" in done.stderr
    assert "topics create" in done.stderr
    assert "Traceback" not in done.stderr

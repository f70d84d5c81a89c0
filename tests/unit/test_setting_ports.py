"""Processes of one machine do not take each other's ports by default."""

from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams


def test_every_process_has_a_port_of_its_own():
    settings = Settings()
    sections = (settings.page, settings.trainer, settings.collect, settings.sinks)
    workers = range(settings.http.port, settings.http.port + len(load_streams(settings.streams_dir)))
    ports = [section.port for section in sections] + list(workers)
    assert len(set(ports)) == len(ports)

"""What doctor says of ports: free, ours, another program's, none of this machine's."""

import asyncio
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from prometheus_client import CollectorRegistry

from dwcp_stream.kafka.version import too_old
from dwcp_stream.telemetry.health import Check, report
from dwcp_stream.web.ports import check_port
from dwcp_stream.web.server import HttpServer


def test_a_free_port_is_right():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    assert check_port("127.0.0.1", port, "the worker") is None


async def test_a_worker_of_ours_may_have_it():
    for ok in (True, False):
        answer = report({"x": Check(ok, "why")})
        server = HttpServer(CollectorRegistry(), lambda answer=answer: answer, lambda answer=answer: answer)
        port = await server.start()
        try:
            assert await asyncio.to_thread(check_port, "127.0.0.1", port, "the worker") is None
        finally:
            await server.stop()


class Other(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_another_program_is_found_whatever_it_speaks():
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found = check_port("127.0.0.1", server.server_port, "the worker of node")
        server.shutdown()
        thread.join()
    assert found is not None
    assert (found.level, found.check) == ("problem", "ports")
    assert "another program listens where the worker of node would" in found.what
    assert "DWCP_HTTP__PORT" in found.remedy


def test_an_address_of_another_machine_cannot_be_listened_on():
    found = check_port("192.0.2.1", 9470, "the worker")
    assert found is not None
    assert "cannot listen" in found.what
    assert "DWCP_HTTP__HOST" in found.remedy


def test_which_broker_is_too_old():
    assert too_old(0) == "2.3"
    assert too_old(18) is None

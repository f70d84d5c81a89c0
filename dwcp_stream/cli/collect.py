"""`dwcp-stream collect`: scrape Prometheus exporters and send samples of a stream, until stopped."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings, shipped

if TYPE_CHECKING:
    from dwcp_stream.kafka.collector import Collector, CollectTotals


@click.command(
    epilog="""\b
Examples:
  dwcp-stream collect --map etcd --prometheus http://e1:2379 --prometheus http://e2:2379 --prometheus http://e3:2379
  dwcp-stream collect --map node_exporter --prometheus http://prometheus:9090/federate
  dwcp-stream collect --map my.toml --prometheus localhost:9100 --job lab --once --json
"""
)
@click.option(
    "--prometheus",
    "urls",
    metavar="URL",
    multiple=True,
    required=True,
    help="Page of an exporter (/metrics if there is no path), or /federate of a Prometheus server; may be repeated.",
)
@click.option(
    "--map",
    "map_name",
    metavar="FILE",
    required=True,
    help="Which series become which fields: a file, or etcd or node_exporter, which ship.",
)
@click.option("--job", help="Label `job` of series that have none, such as a cluster's name; default: the map's name.")
@click.option("--once", is_flag=True, help="Send one sample of each entity, and stop.")
@click.option("--port", type=click.IntRange(0, 65535), help="Of metrics and health; default: the setting collect.port.")
@settings_option
@json_option
def command(
    urls: tuple[str, ...],
    map_name: str,
    job: str | None,
    once: bool,
    port: int | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Scrape exporters once a step of the map's stream, and send a sample of each entity to its topic.

    What cannot be reached is logged and counted, and asked again at the next step. Samples wait while no broker takes
    them. Metrics and health are on http.host and collect.port. Runs until SIGTERM or Ctrl-C. See docs/collect.md.
    """
    from prometheus_client import CollectorRegistry

    from dwcp_stream.collect import load_map
    from dwcp_stream.collect.maps import check_map
    from dwcp_stream.kafka.collector import Collector
    from dwcp_stream.kafka.scraping import page_address
    from dwcp_stream.loading import find_stream
    from dwcp_stream.telemetry.logs import configure_logging
    from dwcp_stream.telemetry.metrics import Metrics
    from dwcp_stream.telemetry.redact import secrets_of

    path = map_file(map_name)
    mapping = load_map(path)
    stream = find_stream(settings, mapping.stream)
    check_map(mapping, stream, path)
    addresses = [page_address(url) for url in urls]
    if not once:
        configure_logging(settings.log, secrets=secrets_of(settings))
    metrics = Metrics(CollectorRegistry())
    collector = Collector(settings, stream, mapping, addresses, metrics, job or path.stem)
    done = asyncio.run(_run(collector, once, settings.collect.port if port is None else port))
    emit(done.plain(), as_json, _render)


def map_file(name: str) -> Path:
    """Return a map's file: the path that was given, else config/maps here, else the one that ships."""
    given = Path(name)
    bare = given.name if given.suffix == ".toml" else f"{given.name}.toml"
    candidates = [given, Path("config/maps") / bare, shipped("config/maps") / bare]
    if given.parent != Path():
        candidates = candidates[:1]
    return next((path for path in candidates if path.is_file()), given)


async def _run(collector: "Collector", once: bool, port: int) -> "CollectTotals":
    from dwcp_stream.web.server import HttpServer

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if once:
        return await collector.run(stop, once=True)
    http = collector.settings.http
    token = http.token.get_secret_value() if http.token else None
    server = HttpServer(
        collector.metrics.registry, collector.live, collector.ready, host=http.host, port=port, token=token
    )
    await server.start()
    try:
        return await collector.run(stop)
    finally:
        await server.stop()


def _render(done: dict[str, Any]) -> str:
    return (
        f"{done['sent']} samples of {done['pages']} pages sent to {done['topic']}; {done['failed']} pages failed,"
        f" {done['dropped']} samples dropped, {done['incomplete']} incomplete, {done['unchanged']} unchanged"
    )

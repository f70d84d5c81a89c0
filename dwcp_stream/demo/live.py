"""The demo on a cluster that really runs: etcd on this machine, its telemetry published, a fault by a key press."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer

from dwcp_stream.demo.cluster import Cluster
from dwcp_stream.demo.session import drain, watched
from dwcp_stream.demo.watch import Seen
from dwcp_stream.errors import ConfigError
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.streams.encode import encode_sample

if TYPE_CHECKING:
    from lab.etcd.cluster import Cluster as EtcdCluster
    from lab.etcd.recorder import Sampler

NAME, MEMBERS, RATE = "etcd-live", 3, 90.0
STEADY_SECONDS = 3.0
HELD_SECONDS = 15.0
"""How long a fault is held."""


@dataclass
class Injected:
    """A fault that was asked for; epoch seconds."""

    kind: str
    start: float
    end: float | None = None
    error: str = ""

    def plain(self, seen: Seen) -> dict[str, Any]:
        """Return it with the seconds from its start to the first alert that began after it, as plain values."""
        came = zip(seen.alerts, seen.received, strict=True)
        after = [at - self.start for alert, at in came if alert["action"] == "firing" and at > self.start]
        return {
            "kind": self.kind, "start": self.start, "end": self.end, "error": self.error,
            "first_alert_after_seconds": round(min(after), 2) if after else None,
        }  # fmt: skip


@dataclass
class Live:
    """What the view shows beside what has been seen: the faults so far, and what may be pressed."""

    kinds: tuple[str, ...]
    faults: list[Injected] = field(default_factory=list)
    wanted: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)

    def press(self, key: str) -> None:
        """Ask for the fault whose number was pressed; other keys do nothing."""
        if key.isdigit() and 1 <= int(key) <= len(self.kinds):
            self.wanted.put_nowait(self.kinds[int(key) - 1])

    def line(self) -> str:
        """Return what is going on, for people."""
        keys = "  ".join(f"{number} {kind}" for number, kind in enumerate(self.kinds, 1))
        now = next((f"fault now: {f.kind}" for f in self.faults if f.end is None), "no fault")
        return f"{now}   press: {keys}"


def fault_kinds() -> tuple[str, ...]:
    """Return the kinds of faults that can be injected.

    Raises
    ------
    ConfigError
        The lab is not there (it comes with the repository, not with the package).
    """
    try:
        from lab.etcd.kinds import FAULTS  # noqa: PLC0415  only this demo needs it
    except ImportError as error:
        raise ConfigError("the lab is missing", where="lab/", remedy="Run the demo in a clone") from error
    return tuple(FAULTS)


async def run_live(
    settings: Settings,
    seconds: float,
    live: Live,
    show: Callable[[Seen, float], None],
    say: Callable[[str], None],
    plan: Sequence[tuple[float, str]] = (),
) -> Any:
    """Run the demo on a live cluster and return its summary.

    Parameters
    ----------
    seconds
        How long telemetry is published.
    live
        Takes key presses while it runs.
    show, say
        As for `dwcp_stream.demo.session.run`.
    plan
        Faults to inject by themselves: seconds after the start, and kind.

    Raises
    ------
    LabError
        If etcd is not installed or the cluster cannot be started.
    """
    from lab.etcd.cluster import Cluster as EtcdCluster  # noqa: PLC0415
    from lab.etcd.happenings import Happenings  # noqa: PLC0415
    from lab.etcd.load import EtcdTarget, Load  # noqa: PLC0415
    from lab.etcd.recorder import Sampler  # noqa: PLC0415
    from lab.etcd.shapes import constant  # noqa: PLC0415

    stream = load_streams(settings.streams_dir)["consensus"]
    topic = topic_name(settings.topics.prefix, stream.topic)
    with tempfile.TemporaryDirectory(prefix="dwcp-demo-") as name:
        say("starting the broker and a worker")
        async with Cluster(settings, {"consensus": stream}, Path(name)) as cluster:
            say(f"starting an etcd cluster of {MEMBERS} members under load")
            async with (
                EtcdCluster(MEMBERS) as etcd,
                Load(EtcdTarget(etcd.apis), RATE, constant(0)) as load,
                producer_client(cluster.settings, linger_ms=2) as producer,
                watched(cluster, show) as seen,
            ):
                await asyncio.sleep(STEADY_SECONDS)
                sampler = Sampler(etcd, load, Happenings(time.time()))
                injecting = asyncio.create_task(_inject(etcd, live, plan))
                try:
                    await _publish(sampler, producer, stream, topic, seconds, seen)
                    await drain(cluster, seen)
                finally:
                    injecting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await injecting
    return {**seen.summary(), "faults": [fault.plain(seen) for fault in live.faults]}


async def _publish(
    sampler: "Sampler", producer: AIOKafkaProducer, stream: StreamDefinition, topic: str, seconds: float, seen: Seen
) -> None:
    async for row in sampler.rows(seconds):
        values = {f.name: row.get(f.name) for f in stream.fields}
        key, value = encode_sample(stream, {"cluster_id": NAME}, row["ts"], values)
        await producer.send(topic, value, key=key)
        seen.sent[stream.name] += 1
    await producer.flush()


async def _inject(etcd: "EtcdCluster", live: Live, plan: Sequence[tuple[float, str]]) -> None:
    """Inject what is asked for, one fault after the other; what does not work is kept with its reason."""
    from lab.etcd.faults import MISSED, inject  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    for at, kind in plan:
        loop.call_later(at, live.wanted.put_nowait, kind)
    while True:
        kind = await live.wanted.get()
        number = len(live.faults)
        fault = Injected(kind, time.time())
        live.faults.append(fault)
        try:
            async with inject(etcd, kind, seed=number):
                await asyncio.sleep(HELD_SECONDS)
        except MISSED as error:
            fault.error = str(error)
        finally:
            fault.end = time.time()

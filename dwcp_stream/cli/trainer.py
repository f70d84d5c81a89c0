"""`dwcp-stream trainer`: decide which version serves by what really happened, and train again."""

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.events import ModelDecision
    from dwcp_stream.streams import StreamDefinition

LEAD_SECONDS = 30.0


@click.command(
    "trainer",
    epilog="""\b
Examples:
  dwcp-stream trainer
  dwcp-stream trainer link --once --json | jq '.decisions[] | {model, decision, version, reason}'
""",
)
@click.argument("names", metavar="[STREAM]...", nargs=-1)
@click.option("--once", is_flag=True, help="Take what the topics hold, decide and train what is due, and stop.")
@settings_option
@json_option
def command(names: tuple[str, ...], settings: Settings, *, once: bool, as_json: bool) -> None:
    """Keep the models of each STREAM, or of all, as good as what really happens allows.

    Reads realised errors, drift and feedback from Kafka. A model is trained again every day, after a drift or by
    command (`control send retrain`); a candidate that is no worse on the newest telemetry runs as shadow, then as
    challenger on a share of the entities, and becomes champion if its realised error is smaller. A champion that turns
    out worse than the one before is rolled back. Each decision is on `dwcp.models` with its numbers.

    Runs until SIGTERM or Ctrl-C. Several may run: one leads, the others stand by. Needs the extra `train`.
    """
    from dwcp_stream.loading import find_stream
    from dwcp_stream.streams import load_streams
    from dwcp_stream.telemetry.logs import configure_logging
    from dwcp_stream.telemetry.redact import secrets_of

    configure_logging(settings.log, secrets=secrets_of(settings))
    chosen = [find_stream(settings, name) for name in names] or list(load_streams(settings.streams_dir).values())
    decisions: list[ModelDecision] = []
    asyncio.run(_run(settings, chosen, decisions, once=once))
    made = [msgspec.to_builtins(decision) for decision in decisions]
    emit({"streams": [stream.name for stream in chosen], "decisions": made}, as_json, _render)


async def _run(
    settings: Settings, streams: "list[StreamDefinition]", decisions: "list[ModelDecision]", *, once: bool
) -> None:
    from dwcp_stream.errors import BrokerError
    from topologies.trainer_process import trainer_process

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with trainer_process(settings, streams, decisions.append) as process:
        if not once:
            running = asyncio.create_task(process.run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled() and (error := running.exception()) is not None:
                raise error
            return
        await process.catch_up()
        if not await process.lead(LEAD_SECONDS):
            raise BrokerError("another trainer leads", where=settings.app_id, remedy="Stop it, or let it do the work")
        await process.trainer.look()
        await process.trainer.idle()


def _render(result: dict[str, Any]) -> str:
    if not result["decisions"]:
        return "nothing to decide"
    return "\n".join(
        f"{d['model']} version {d['version']}: {d['decision']}, {d['reason']}" for d in result["decisions"]
    )

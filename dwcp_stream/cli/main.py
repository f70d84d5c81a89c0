"""The program `dwcp-stream`: finds a command, imports only that one, and turns errors into one line."""

import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

import click
import msgspec

from dwcp_stream.cli.common import State
from dwcp_stream.errors import DwcpError

# Name and short help; the help is here, so that listing the commands imports none of them.
COMMANDS = {
    "demo": "See it all work: broker, workers, a replayed fault.",
    "page": "Show all streams on a live page in the browser.",
    "worker": "Watch one stream, or all of them, until stopped.",
    "broker": "Run the embedded broker: Kafka's protocol, in memory.",
    "replay": "Send a file's samples to a stream's topic.",
    "backtest": "Run a file through a stream's pipeline, without Kafka.",
    "budget": "Choose the alert policy that keeps to so many alerts a day.",
    "explain": "Say why an alert was raised, and reproduce its score.",
    "train": "Train a stream's models from a file, or on recent telemetry.",
    "collect": "Scrape Prometheus exporters and send a stream's samples.",
    "archive": "Keep a stream's telemetry as Parquet files.",
    "evaluate": "Compare a model with simple rules on a file.",
    "streams": "List the streams, show one, or draft one from a file.",
    "models": "List, show and verify the models.",
    "trainer": "Decide which version serves by what really happened, and train again.",
    "alert-sink": "Send alerts to Alertmanager and webhooks.",
    "accuracy": "Show how good forecasts and alerts were.",
    "report": "Write the card of a week.",
    "incidents": "Make incidents of alerts, and look at them.",
    "silence": "Let nobody be told of some alerts for some time.",
    "feedback": "Say whether an alert was right, or missing.",
    "topics": "List and create the topics.",
    "control": "Command running workers, signed.",
    "bench": "Measure it beside other programs, in a source checkout.",
    "capacity": "Say how many workers and partitions a load needs.",
    "config": "Check the settings and the stream definitions.",
    "doctor": "Say what is wrong with settings, brokers, topics, models.",
}
INTERRUPTED = 130
HELP = """Watch the telemetry of DWCP clusters in Kafka: alerts, forecasts, drift.

\b
See it work:        dwcp-stream demo --seconds 60
Watch one stream:   dwcp-stream worker consensus
Try it on a file:   dwcp-stream backtest consensus --data run.csv --entity lab

Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted. Settings: docs/settings.md.
"""


def module_of(name: str) -> str:
    """Return the module of a command."""
    return f"dwcp_stream.cli.{name.replace('-', '_')}"


class LazyGroup(click.Group):
    """A group whose commands are modules of `dwcp_stream.cli`, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that are installed, in the order of the table."""
        del ctx
        return [name for name in COMMANDS if importlib.util.find_spec(module_of(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None if there is no such name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(module_of(cmd_name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing nothing."""
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(version("dwcp-stream"), prog_name="dwcp-stream")
@click.option("--debug", is_flag=True, envvar="DWCP_DEBUG", help="Show tracebacks, and log everything.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Note whether tracebacks are wanted; the help text is HELP."""
    context.ensure_object(State).debug = debug


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; errors are printed, none is raised."""
    state = State()
    try:
        result = cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False, obj=state)
    except click.exceptions.Abort:  # click turns KeyboardInterrupt into this
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except DwcpError as error:
        _report(state, error.error_type, error.what, error.where, error.remedy)
    except BrokenPipeError:
        # The reader went away (`| head`). Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _report(state, "os", error.strerror or str(error), str(error.filename or ""), "")
    except Exception as error:  # noqa: BLE001  # the last resort: a bug is still one line, with the way to see more
        _report(
            state,
            "internal",
            f"{type(error).__name__}: {error}",
            "",
            "Use `dwcp-stream --debug ...` for the traceback",
        )
    else:
        return result if type(result) is int else 0  # a number comes from `context.exit(code)`
    return 1


def _report(state: State, error_type: str, what: str, where: str, remedy: str) -> None:
    """Print an error: a line on stderr, or with --json an object on stdout; a traceback only with --debug."""
    what, where, remedy = (state.redact(text) for text in (what, where, remedy))
    if state.debug:
        click.echo(state.redact(traceback.format_exc()), err=True)
    if state.as_json:
        body = {"error_type": error_type, "what": what, "where": where, "remedy": remedy}
        click.echo(msgspec.json.encode({"error": body}).decode())
        return
    text = f"{where}: {what}" if where else what
    text = f"{text}. {remedy}" if remedy else text
    click.echo(f"error: {' '.join(text.split())}", err=True)


def main() -> None:
    """Entry point of the installed program."""
    # What aiokafka logs of a failure is said by our error in one line; --debug and `worker` hear it again.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    sys.exit(run())

"""What all commands share: `--json`, `--config`, results on stdout, progress on stderr."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import msgspec

from dwcp_stream.setting_sections import KEY_ID
from dwcp_stream.settings import load_settings

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class State:
    """What the main program needs to know of an invocation: whether the caller reads JSON, and what is secret."""

    as_json: bool = False
    debug: bool = False
    redact: Callable[[str], str] = str


def _remember_json(context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    state = context.find_object(State)
    if state is not None and value:
        state.as_json = True
    return value


def json_option(function: Callable[P, R]) -> Callable[P, R]:
    """Add ``--json``, passed as `as_json`: one JSON object on stdout, everything else on stderr."""
    decorate = click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember_json,
        help="Print one JSON object on stdout.",
    )
    return decorate(function)


def entity_option(function: Callable[P, R]) -> Callable[P, R]:
    """Add ``--entity NAME``: the entity of files that do not say it."""
    decorate = click.option(
        "--entity",
        metavar="NAME",
        help="Entity of files that have no entity columns; default: the file's name, where one part is enough.",
    )
    return decorate(function)


def key_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add ``--key FILE`` and ``--as NAME``, passed as `key_file` and `key_id`: whose signature it is."""
    return _key_options(function, required=True)


def optional_key_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add the same for what need not be signed."""
    return _key_options(function, required=False)


def _key_options(function: Callable[..., R], *, required: bool) -> Callable[..., R]:
    named = click.option("--as", "key_id", metavar="NAME", help="What readers call the key; default: the file's stem.")
    key = click.option(
        "--key",
        "key_file",
        type=click.Path(dir_okay=False, path_type=Path),
        required=required,
        metavar="FILE",
        help="Your private key; `control keygen` makes one.",
    )
    return key(named(function))


def key_name(key_file: Path, key_id: str | None) -> str:
    """Return what readers call a key; UsageError if no settings could have that name."""
    name = key_file.stem if key_id is None else key_id
    if not KEY_ID.fullmatch(name):
        raise click.BadParameter(f"{name!r} is no name of a key; give --as NAME", param_hint="--key")
    return name


def _version_or_none(_context: click.Context, parameter: click.Parameter, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is neither a version nor none", param=parameter)
    return int(text)


version_or_none = click.argument("version", metavar="VERSION|none", callback=_version_or_none)
"""A version's number, or the word `none`, which becomes None."""


def share_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add ``--share PERCENT``, passed as `share`; see `share_of`."""
    help_ = "Of the entities that it serves, 1 to 100; none needs none."
    decorate = click.option("--share", type=click.IntRange(1, 100), metavar="PERCENT", help=help_)
    return decorate(function)


def share_of(version: int | None, share: int | None) -> int:
    """Return the share, 0 without a version; UsageError for a version without a share or a share without a version."""
    if (version is None) != (share is None):
        raise click.UsageError("a version needs --share PERCENT" if version else "none takes no --share")
    return share or 0


def settings_option(function: Callable[..., R]) -> Callable[..., R]:
    """Add ``--config FILE``, passed as `settings`: the file, overridden by the DWCP_* variables."""

    @click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Settings file; else DWCP_CONFIG, else config/dwcp-stream.toml. DWCP_* variables override it.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, config_file: Path | None, **kwargs: Any) -> R:
        settings = load_settings(config_file)
        state = click.get_current_context().find_object(State)
        if state is not None:
            from dwcp_stream.telemetry.logs import configure_logging, log_to_stderr
            from dwcp_stream.telemetry.redact import Redactor, secrets_of

            state.redact = Redactor(secrets_of(settings)).text
            if state.debug:
                settings = settings.model_copy(update={"log": settings.log.model_copy(update={"level": "debug"})})
                configure_logging(settings.log, secrets=secrets_of(settings))
            else:
                log_to_stderr()
        return function(*args, settings=settings, **kwargs)

    return wrapper


def _plain(value: object) -> object:
    """Make numpy numbers, paths and the like plain for JSON."""
    for convert in ("tolist", "model_dump"):
        method = getattr(value, convert, None)
        if callable(method):
            result: object = method()
            return result
    return str(value)


def emit(obj: object, as_json: bool, render: Callable[[Any], object] | None = None) -> None:
    """Print a result: one JSON object (NaN becomes null), or what `render` makes of it.

    Parameters
    ----------
    obj
        A mapping, dataclass or msgspec Struct.
    as_json
        The value of ``--json``.
    render
        Called with `obj`; prints itself and returns None, or returns a text or rich renderable to print.
        Without it the object is printed as indented JSON.
    """
    encoded = msgspec.json.encode(obj, enc_hook=_plain)
    if as_json:
        click.echo(encoded.decode())
        return
    shown = render(obj) if render else msgspec.json.format(encoded, indent=2).decode()
    if isinstance(shown, str):
        click.echo(shown)
    elif shown is not None:
        from rich.console import Console

        Console().print(shown)


@contextmanager
def progress(what: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on stderr while the block runs, if it is a terminal; yields `advance(amount)`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.advance(task, amount)


def advance_to(advance: Callable[[float], None]) -> Callable[..., None]:
    """Turn `advance(so much more)` into a function that is told how much is done in all.

    It takes a word on what is being done as well, as trainers give one, and leaves it out.
    """
    done = 0.0

    def report(share: float, _what: str = "") -> None:
        nonlocal done
        advance(max(share - done, 0.0))
        done = max(share, done)

    return report

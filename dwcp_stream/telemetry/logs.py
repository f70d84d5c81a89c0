"""Logging: structlog in front, one handler behind, for our own words and for those of Faust and aiokafka.

JSON lines when stderr is not a terminal, a readable console otherwise; always on stderr, since stdout is for
results. What does not change in a chunk is bound once for it: ``structlog.get_logger().bind(stream=name)``.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dwcp_stream.setting_sections import LogSettings
from dwcp_stream.telemetry.redact import Redactor
from dwcp_stream.telemetry.repeats import RepeatFilter, RepeatLimiter

NOISY = ("aiokafka", "faust", "mode", "asyncio", "aiohttp.access", "matplotlib", "PIL", "jax")
"""Libraries that log much at level info; they are heard from warning on, and in full with debug."""


def log_to_stderr() -> None:
    """Let a command that logs little write it to stderr, for people: stdout is for its result."""
    structlog.reset_defaults()
    structlog.configure(
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def configure_logging(
    settings: LogSettings | None = None,
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Set up logging for the process; called again, it replaces what it set up before.

    Parameters
    ----------
    settings
        Level, format and rate limit.
    secrets
        Values never to be written, as `redact.secrets_of(settings)` gives them.
    stream
        Where to write; stderr.
    clock
        Monotonic seconds, for the rate limit.
    """
    settings = settings or LogSettings()
    output = stream or sys.stderr
    as_json = not output.isatty() if settings.as_json is None else settings.as_json
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=["held_back"]),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a test, or a worker that reads its settings late, configures again
    )
    handler = logging.StreamHandler(output)
    handler.addFilter(RepeatFilter(RepeatLimiter(settings.repeat_seconds, clock)))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common, processors=_rendering(as_json, output, Redactor(secrets))
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    library_level = logging.NOTSET if settings.level == "debug" else max(logging.WARNING, root.level)
    for name in NOISY:
        logging.getLogger(name).setLevel(library_level)
        logging.getLogger(name).handlers[:] = []  # Faust installs its own unless told otherwise
        logging.getLogger(name).propagate = True
    logging.captureWarnings(capture=True)


def _rendering(as_json: bool, output: TextIO, redactor: Redactor) -> list[Processor]:
    """Return the last steps: a traceback becomes text before secrets are taken out, then all is written."""

    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        clean = redactor.value(event)
        return clean if isinstance(clean, dict) else event

    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        renderer,
    ]

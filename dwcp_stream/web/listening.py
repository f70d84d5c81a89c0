"""Listening on an address from inside a running event loop."""

from aiohttp import web

from dwcp_stream.errors import ConfigError


async def listen(app: web.Application, host: str, port: int, setting: str) -> tuple[web.AppRunner, int]:
    """Begin to serve an application; returns what ends it, and the port.

    Parameters
    ----------
    port
        0 takes a free one.
    setting
        Name of the setting that gave the port, for people.

    Raises
    ------
    ConfigError
        The address cannot be listened on.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        variable = "DWCP_" + setting.upper().replace(".", "__")
        raise ConfigError(
            f"cannot listen there: {error.strerror or error}",
            where=f"{host}:{port}",
            remedy=f"Choose another {setting} ({variable}), or 0 for any free one",
        ) from error
    return runner, int(runner.addresses[0][1])

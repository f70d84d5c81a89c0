"""The process of proxies, one before each member: `python -m lab.etcd.switchboard`, started by `links`.

A process of its own, as the load generator's work must not add to the round trips between members. Commands come over
its standard input as lines of JSON, each answered by one line; it ends when that input ends.
"""

import asyncio
import json
import sys
from typing import Any

from lab.etcd.proxy import Proxy, Shape


async def _obey(proxies: list[Proxy], command: dict[str, Any]) -> dict[str, Any]:
    match command["do"]:
        case "listen":
            proxies.extend(Proxy(i, port, command["seed"]) for i, port in enumerate(command["targets"]))
            return {"ports": [await proxy.listen() for proxy in proxies]}
        case "name":
            for proxy in proxies:
                proxy.names = {int(member): index for member, index in command["ids"].items()}
        case "impair":
            shape = Shape(**command["shape"])
            for proxy in proxies:
                proxy.impair(dict.fromkeys(command["members"], shape))
        case "reset":
            return {"reset": sum(proxy.reset(set(command["members"])) for proxy in proxies)}
    return {}


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    proxies: list[Proxy] = []
    while line := await reader.readline():
        answer = await _obey(proxies, json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for proxy in proxies:
        await proxy.close()


if __name__ == "__main__":
    asyncio.run(_serve())

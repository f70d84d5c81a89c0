"""Which Kafka a broker is, as far as it can be told from the protocol versions it speaks."""

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

FETCH = 1

# Versions of the fetch request and the first release of Apache Kafka that speaks them.
RELEASES = ((18, "4.1"), (17, "3.9"), (16, "3.7"), (15, "3.5"), (13, "3.1"), (12, "2.7"), (11, "2.3"))


OLDEST = (11, "2.3")
"""The fetch request of the oldest broker that a worker can use: static membership came with that release."""


def too_old(fetch_api: int) -> str | None:
    """Return the release that is needed if a broker's newest fetch request is older, None if it will do.

    Examples
    --------
    >>> too_old(10), too_old(11)
    ('2.3', None)
    """
    least, release = OLDEST
    return release if fetch_api < least else None


async def broker_version(admin: AIOKafkaAdminClient) -> dict[str, Any]:
    """Return brokers, controller, and the newest fetch version with the release it came with."""
    cluster = await admin.describe_cluster()
    node = cluster["brokers"][0]["node_id"]
    connection = await admin._client._get_conn(node)
    spoken = connection._versions.get(FETCH)
    newest = spoken[1] if spoken else 0
    release = next((name for version, name in RELEASES if newest >= version), None)
    return {
        "brokers": [f"{b['host']}:{b['port']}" for b in cluster["brokers"]],
        "cluster_id": cluster.get("cluster_id"),
        "version": f"{release} or later" if release else "unknown",
        "fetch_api": newest,
    }

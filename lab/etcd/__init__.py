"""A real etcd cluster under load and faults, and recordings of it as labelled `consensus` telemetry.

    async with Cluster(3) as cluster, Load(EtcdTarget(cluster.apis), 90.0, SHAPES["sine"](7)) as load:
        async with inject(cluster, "leader_lost", how="pause") as info:
            ...

`cluster` runs the `member`s and knows the leader (`api` talks to them, `tools` finds programs and ports, `slowdisk.c`
slows their disks); `links` puts a process of `proxy`s between them (`switchboard`). `load` sends what `arrivals` plans
at the rate of `shapes`, to members in `rotation`. `kinds` says what can happen, `schedule` when, `faults` and
`negatives` do it, `happenings` keeps what was done. `scrape` and `fields` make the rows, `machine` says whether others
disturbed them, `recorder` puts it together, and `output` writes it. `python -m lab.etcd --help` is the command.
"""

from lab.etcd.cluster import Cluster
from lab.etcd.errors import LabError, RequestError
from lab.etcd.faults import inject
from lab.etcd.load import EtcdTarget, Load
from lab.etcd.negatives import perform
from lab.etcd.shapes import SHAPES

__all__ = ["SHAPES", "Cluster", "EtcdTarget", "LabError", "Load", "RequestError", "inject", "perform"]

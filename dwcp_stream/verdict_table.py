"""Every verdict of a backtest as a row of a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.scoring import Model, Verdicts

QUANTILES = ("q10", "q50", "q90")


class VerdictTable:
    """Collects verdicts and writes them as CSV or Parquet.

    Columns: entity, ts (epoch seconds, as the sample came), model, version, score, state (`firing` while the entity's
    alert fires, else `ok`; a row that had no verdict is not written), `probability` of an incident, and for forecasts
    `<target>_h<steps>_<q10|q50|q90>`.
    """

    def __init__(self) -> None:
        self._parts: list[pl.DataFrame] = []

    def __call__(
        self,
        model: Model,
        entities: Sequence[str],
        ts: NDArray[np.float64],
        verdicts: Verdicts,
        firing: NDArray[np.bool_],
    ) -> None:
        """Take the verdicts of one model on one pass."""
        columns: dict[str, object] = {
            "entity": list(entities),
            "ts": ts,
            "model": [model.name] * len(ts),
            "version": np.full(len(ts), model.version),
            "score": verdicts.score,
            "state": np.where(firing, "firing", "ok"),
        }
        if verdicts.probability is not None:
            columns["probability"] = verdicts.probability
        if verdicts.quantiles is not None:
            for h, horizon in enumerate(model.horizons):
                for y, target in enumerate(model.targets):
                    for q, name in enumerate(QUANTILES):
                        columns[f"{target}_h{horizon}_{name}"] = verdicts.quantiles[:, h, y, q]
        self._parts.append(pl.DataFrame(columns))

    def write(self, path: Path) -> None:
        """Write the rows in order of time and entity; PayloadError if the file cannot be written."""
        table = pl.concat(self._parts, how="diagonal") if self._parts else pl.DataFrame({"entity": []})
        if "ts" in table.columns:
            table = table.sort("ts", "entity", "model", maintain_order=True)
        try:
            if path.suffix == ".parquet":
                table.write_parquet(path)
            else:
                table.write_csv(path)
        except OSError as error:
            raise PayloadError(
                f"cannot be written: {error.strerror or error}",
                where=str(path),
                remedy="Choose another --scores",
            ) from error

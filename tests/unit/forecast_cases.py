"""Small forecasters and histories for the tests of the default forecaster."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.forecast import network
from dwcp_stream.training.forecast.graph import Parts, build
from dwcp_stream.training.forecast.judge import Start
from dwcp_stream.training.forecast.layout import Layout, Season, Transform

STEP, START = 3600.0, 1_699_920_000.0  # a midnight


def layout(targets: int = 2, *, seasons: tuple[Season, ...] = (Season(86_400.0, 24),), **changes: Any) -> Layout:
    """Layout of `targets` plain targets and one covariate, ten rows."""
    names = tuple(f"y{i}" for i in range(targets))
    usual: dict[str, Any] = {
        "fields": (*names, "z"),
        "targets": names,
        "transforms": tuple(Transform(False, 0.0, None, None) for _ in names),
        "covariates": (targets,),
        "horizons": (1, 3),
        "window": 10,
        "stride": 1,
        "step": STEP,
        "irregular": False,
        "seasons": seasons,
    }
    return Layout(**{**usual, **changes})


def weights(shape: Layout, seed: int = 0, *, noise: float = 0.1) -> network.Weights:
    """Draw weights; with `noise` 0 the forecast is the last value, give or take one scale."""
    rng = np.random.default_rng(seed)
    y, h = len(shape.targets), len(shape.horizons)
    inputs = shape.common + h * shape.seasonal
    params = network.init(seed, y, inputs, np.ones((y, h), np.float32))
    params["last"]["W"] = noise * rng.normal(size=params["last"]["W"].shape).astype(np.float32)
    params["skip"]["W"] = noise * rng.normal(size=params["skip"]["W"].shape).astype(np.float32)
    return network.Weights(
        noise * rng.normal(size=(y, inputs)).astype(np.float32),
        rng.uniform(0.5, 2.0, (y, inputs)).astype(np.float32),
        noise * rng.normal(size=(2, y, h, shape.common + shape.seasonal + 1)).astype(np.float32),
        params,
        rng.integers(0, 2, (y, h)).astype(np.float32),
    )


def start(shape: Layout, edge: float = -0.1) -> Start:
    """Start of entities: the model is trusted, intervals as they are."""
    size = (len(shape.horizons), len(shape.targets))
    nothing = np.zeros(size, np.float32)
    return Start(np.full(size, edge, np.float32), np.full(size, 50.0, np.float32), nothing, nothing)


def flat(shape: Layout) -> tuple[np.ndarray, ...]:
    """Seasons without a usual course."""
    return tuple(np.zeros((len(shape.targets), s.slots), np.float32) for s in shape.seasons)


class Runner:
    """Feeds a graph row by row, as the daemon does; batch of one, padded to four."""

    def __init__(self, shape: Layout, parts: Parts) -> None:
        self.shape = shape
        self._session = make_session(build(parts))
        self._names = [output.name for output in self._session.get_outputs()]
        self.state = np.full((4, shape.state), np.nan, np.float32)

    def __call__(self, history: np.ndarray, ts: np.ndarray) -> dict[str, np.ndarray]:
        """Run over a history [N, F] whose rows are at `ts` [N]; outputs [N - T + 1, ...]."""
        rows: list[list[np.ndarray]] = []
        t = self.shape.window
        for end in range(t, len(history) + 1):
            window = np.repeat(history[None, end - t : end], 4, axis=0).astype(np.float32)
            time = np.repeat(ts[None, end - t : end], 4, axis=0)
            feed = {"window": window, "time": time, "state_in": self.state}
            made = self._session.run(self._names, feed)
            rows.append([array[0] for array in made])
            self.state = made[self._names.index("state_out")]
        return {name: np.stack([r[i] for r in rows]) for i, name in enumerate(self._names)}


def times(rows: int) -> np.ndarray:
    """Times of rows from a midnight on."""
    return START + STEP * np.arange(rows)


def daily(days: int, seed: int = 0, *, level: float = 100.0, noise: float = 1.0, step: float = STEP) -> np.ndarray:
    """Values of days that repeat themselves, with noise that lasts a few rows."""
    rng = np.random.default_rng(seed)
    size = round(days * 86_400 / step)
    phase = 2 * np.pi * np.arange(size) * step / 86_400
    shocks, lasting = rng.normal(0, noise, size), np.zeros(size)
    for i in range(1, size):
        lasting[i] = 0.6 * lasting[i - 1] + shocks[i]
    return level + 20 * np.sin(phase) + 8 * np.sin(2 * phase + 1) + lasting


def write_stream(
    folder: Path, fields: str, models: str, *, step: object = STEP, entity: str = "site", **keys: Any
) -> None:
    """Write the definition of the stream `sites`."""
    folder.mkdir(exist_ok=True)
    more = "\n".join(f"{key} = {value}" for key, value in keys.items())
    told = f'"{step}"' if isinstance(step, str) else step
    (folder / "sites.toml").write_text(
        f'name = "sites"\ntopic = "t.sites"\nentity = ["{entity}"]\nstep = {told}\nwindow = 24\n'
        f"expire_after = 1e8\n{more}\n{fields}\n[[models]]\n{models}\n"
    )


def field(name: str, **keys: Any) -> str:
    """Return a [[fields]] table."""
    return f'[[fields]]\nname = "{name}"\n' + "".join(f"{key} = {value}\n" for key, value in keys.items())


def table(values: dict[str, Any], ts: np.ndarray) -> pl.DataFrame:
    """Return a table with the time column first."""
    return pl.DataFrame({"ts": ts, **values})

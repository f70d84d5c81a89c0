"""Compare detectors of consensus trouble, each fitted to some runs and judged on others.

    python -m lab.evaluations.consensus --train n1.csv.gz r1.csv.gz --test r2.csv.gz r3.csv.gz
    python -m lab.evaluations.consensus --rotate n1.csv.gz r1.csv.gz r2.csv.gz r3.csv.gz --only "consensus model"
    python -m lab.evaluations.consensus --reference consensus_pytorch_n20000_a1000.npz

Nothing of a test file chooses a weight or a threshold: the threshold is the one with the most events found less false
alarms in the training files (of the rules and the model, their own). With --rotate every file with faults is the test
file once. Rows of recovery and disturbed rows count neither way; hard negatives are quiet time. `--scale` multiplies
all latencies of the test files, and queues with them, as a slower or faster machine would.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from dwcp_stream.streams import load_stream
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.training.consensus.data import KINDS, Mask, read_runs
from dwcp_stream.training.consensus.sequence import Windows, see
from dwcp_stream.training.dataset import Ints
from lab.evaluations.consensus_detectors import (
    Detector,
    Fitted,
    detectors,
    fitted,
    laid,
    rate_of,
)
from lab.evaluations.consensus_reference import judge_reference
from lab.evaluations.consensus_tally import Tally
from lab.evaluations.output import emit_table

STREAM = Path(__file__).resolve().parents[2] / "config" / "streams" / "consensus.toml"
File = click.Path(exists=True, dir_okay=False, path_type=Path)
LATENCIES = ("latency_p50", "latency_p95", "latency_p99")


@click.command()
@click.option("--train", "train_files", type=File, multiple=True, help="Runs to fit to; more files may follow.")
@click.option("--test", "test_files", type=File, multiple=True, help="Runs to judge on.")
@click.option("--rotate", "rotate_files", type=File, multiple=True, help="Runs that are tested in turn.")
@click.option("--reference", type=File, help="The reference's rows instead of runs.")
@click.option("--only", multiple=True, help="Detectors by name; default: all.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="Factor of all latencies of test files.")
@click.option("--members", type=click.IntRange(0, 9), default=0, help="Members that test files are to seem to have.")
@click.option("--without", type=click.Choice(KINDS[:-1]), help="A kind that training never shows; only it is tested.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    train_files: tuple[Path, ...],
    test_files: tuple[Path, ...],
    rotate_files: tuple[Path, ...],
    reference: Path | None,
    only: tuple[str, ...],
    scale: float,
    members: int,
    without: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fit, judge, and print a table by detector."""
    if (bool(train_files) and bool(test_files)) + bool(rotate_files) + bool(reference) != 1:
        raise click.UsageError("Give --train and --test, or --rotate, or --reference")
    stream = load_stream(STREAM)
    if reference:
        emit_table(judge_reference(reference, stream, only, seed), as_json)
        return
    files = rotate_files or (*train_files, *test_files)
    seen, source = changed(stream, files, scale, members)
    if rotate_files:
        tests = [source == number for number in np.unique(source[seen.event >= 0])]
    else:
        tests = [source >= len(train_files)]
    chosen = {name: d for name, d in detectors().items() if not only or name in only}
    hidden = -1 if without is None else KINDS.index(without)
    rows = [
        run(name, d, seen, tests, seed, changed=scale != 1.0 or members > 0, hidden=hidden)
        for name, d in chosen.items()
    ]
    emit_table({"detectors": rows}, as_json)


def changed(stream: StreamDefinition, files: Sequence[Path], scale: float, members: int) -> tuple[Windows, Ints]:
    """Read the files; if something is to be changed in test runs, once more with the change, as further files.

    Returns
    -------
    tuple
        All windows, and the number of each window's file, the same for a file and its changed copy.
    """
    if scale == 1.0 and not members:
        seen = see(read_runs(stream, files))
        return seen, seen.source
    runs = read_runs(stream, (*files, *files))
    grid = runs.grid
    values, copy = grid.values.copy(), grid.source >= len(files)
    at = {name: i for i, name in enumerate(stream.field_names)}
    for name in ("queue_depth", "proposals_pending", *LATENCIES):
        values[copy, at[name]] *= np.float32(scale)
    if members:
        quorum, active = values[:, at["quorum_size"]], values[:, at["active_nodes"]]
        gone = 2.0 * quorum - 1.0 - active
        # without a quorum no member is healthy, however many there are
        values[copy, at["active_nodes"]] = np.where(active > 0, np.maximum(members - gone, 0.0), active)[copy]
        values[copy, at["quorum_size"]] = members // 2 + 1
    seen = see(replace(runs, data=replace(runs.data, grid=replace(grid, values=values))))
    return seen, seen.source % len(files)


def run(
    name: str,
    detector: Detector,
    seen: Windows,
    tests: Sequence[Mask],
    seed: int,
    *,
    changed: bool = False,
    hidden: int = -1,
) -> dict[str, Any]:
    """Fit and judge one detector on each test part, with all other windows to train on.

    Parameters
    ----------
    name, detector
        Which.
    seen, tests, seed
        All windows, and those of each test part.
    changed
        Whether the second half of the files are the changed copies: they are tested, and never trained on.
    hidden
        Kind of fault that is tested alone and never trained on; -1 for none.
    """
    tally = Tally(name)
    told = seen.quiet | (seen.kind == hidden) | (hidden < 0)
    judged = replace(seen, usable=seen.usable & told)
    copy = seen.source >= (seen.source.max() + 1) // 2 if changed else np.zeros(len(seen.source), bool)
    for part in tests:
        train = seen.usable & ~part & ~copy & ((seen.kind != hidden) | (hidden < 0))
        test = part & (copy if changed else True)
        score, limit = fitted(detector, seen, train, seed)
        scores = laid(score(test), test)
        tally.add(judged, test, scores, limit)
        if isinstance(score, Fitted):
            tally.add_kinds(judged, test, scores, score.kinds())
    tally.rate = rate_of(detector, score, seen)
    return tally.row()


def each_named(words: Sequence[str]) -> list[str]:
    """Repeat an option before each of the files that follow it: `--train a b` becomes `--train a --train b`."""
    found: list[str] = []
    option = ""
    for word in words:
        if word.startswith("--"):
            option = word if word in ("--train", "--test", "--rotate") else ""
            found += [] if option else [word]
        else:
            found += [option, word] if option else [word]
    return found


if __name__ == "__main__":
    main(each_named(sys.argv[1:]))

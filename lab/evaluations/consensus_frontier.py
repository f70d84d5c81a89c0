"""Quality against cost of consensus detectors: a picture and a table of what the comparison printed.

    python -m lab.evaluations.consensus_frontier results.json more.json --out frontier.png

The files are what `python -m lab.evaluations.consensus ... --json` printed. A detector is on the frontier if none that
is as fast has a higher average precision.
"""

import json
from pathlib import Path
from typing import Any

import click
from matplotlib.figure import Figure

from dwcp_stream.training.report import table

COLUMNS = ("detector", "events found", "false alarms", "ROC AUC", "AP", "windows a second")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="PNG file to write.")
def main(files: tuple[Path, ...], out: Path | None) -> None:
    """Print the detectors that have a cost, cheapest last, and draw them."""
    rows = [row for path in files for row in json.loads(path.read_text(encoding="utf-8"))["detectors"]]
    rows = sorted((row for row in rows if row["windows a second"]), key=lambda row: float(row["windows a second"]))
    best = frontier(rows)
    header = (*COLUMNS, "frontier")
    click.echo(table(header, [[*(row[c] for c in COLUMNS), "yes" if row["detector"] in best else ""] for row in rows]))
    if out:
        draw(rows, best, out)


def frontier(rows: list[dict[str, Any]]) -> set[str]:
    """Names of the detectors that none as fast outdoes in average precision; rows by rising speed."""
    found, highest = set(), float("-inf")
    for row in reversed(rows):
        if row["AP"] > highest:
            found.add(str(row["detector"]))
            highest = row["AP"]
    return found


def draw(rows: list[dict[str, Any]], best: set[str], out: Path) -> None:
    """Draw average precision over windows a second."""
    figure = Figure(figsize=(8, 4.5), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        on = row["detector"] in best
        axes.plot(row["windows a second"], row["AP"], "o", color="tab:blue" if on else "0.6")
        place = (row["windows a second"], row["AP"])
        axes.annotate(str(row["detector"]), place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    line = [row for row in rows if row["detector"] in best]
    axes.plot([r["windows a second"] for r in line], [r["AP"] for r in line], color="tab:blue", linewidth=0.8)
    axes.axvline(50_000, color="black", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("windows a second on one thread, features included, 512 at once", fontsize=8)
    axes.set_ylabel("average precision, held-out runs", fontsize=8)
    axes.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Software": None})


if __name__ == "__main__":
    main()

"""One stretch of a chunk on its way through the rings: settle it, keep its windows, write it back."""

import numpy as np

from dwcp_stream.windows.counters import rates
from dwcp_stream.windows.grid import Settled, settle_grid, settle_irregular
from dwcp_stream.windows.layout import F32, F64, I64, U8, Bool
from dwcp_stream.windows.outcome import Outcome
from dwcp_stream.windows.passes import Pass
from dwcp_stream.windows.ring import NO_HEAD, Rings
from dwcp_stream.windows.segments import Segments
from dwcp_stream.windows.workspace import Gather, Timeline, lay_out, lay_out_values


class Stretch:
    """m samples of k entities, none of which starts its window anew except at its first sample.

    Parameters
    ----------
    rings
        The live state; changed by `run` only.
    segments
        The samples, by entity.
    ts, values
        float64[n] and float64[n, F] of the whole chunk.
    restart
        bool[k], entities whose first sample starts their window anew.
    """

    def __init__(self, rings: Rings, segments: Segments, ts: F64, values: F64, *, restart: Bool) -> None:
        self.rings, self.layout, self.segments = rings, rings.layout, segments
        self.ts, self.values = ts[segments.sample], values
        slot = segments.slot
        self.anew = restart | (rings.head[slot] == NO_HEAD)
        if self.anew.any():
            rings.empty(slot[restart])
            rings.anchor[slot[self.anew]] = self.ts[segments.start[self.anew]]
        self.head, self.anchor = rings.head[slot], rings.anchor[slot]
        self.held = rings.oldest_first(slot)  # ring positions, int64[k, T]
        filled = rings.filled[slot[:, None], self.held]
        self.settled = self._settle(filled)
        self.timeline: Timeline = lay_out(segments, self.settled, filled)
        self.new = np.flatnonzero(self.settled.advance | self.settled.fill)
        self.row = self.settled.rel + self.head[segments.seg]

    def run(self, sample: I64, outcome: U8, *, scoring: bool) -> Pass:
        """Settle the samples and move the rings on.

        Parameters
        ----------
        sample
            int64[n'], indices in the chunk of this stretch, those that never reach the rings included.
        outcome
            uint8[n'], their outcomes; filled in for those that do.
        scoring
            Whether to keep what gathering windows needs.
        """
        segments, layout, new, seg = self.segments, self.layout, self.new, self.segments.seg
        begin = int(sample[0])
        counts = self.timeline.counts(segments, self.settled, new)
        warm = counts >= layout.min_periods
        self.settled.outcome[new] = np.where(warm, Outcome.SCORED, Outcome.WARMING_UP)
        outcome[segments.sample - begin] = self.settled.outcome

        rows = self._rows_held()
        moving = np.flatnonzero(self.settled.advance[new])
        place = np.zeros(len(sample), np.int64)
        place[segments.sample[new[moving]] - begin] = moving + 1
        order = place[place > 0] - 1  # indices into `new`, in the order of the log
        adv = new[order]
        scored = np.flatnonzero(warm[order] & (self.row[adv] % layout.stride == 0))
        gather = self._gather(rows, adv[scored]) if scoring else None
        self._write(rows)
        slot = segments.slot[seg[adv]]
        irregular = layout.step is None
        return Pass(
            sample=sample,
            outcome=outcome,
            rejected=sample[outcome == Outcome.INVALID],
            touched=segments.slot,
            adv_sample=segments.sample[adv],
            adv_slot=slot,
            adv_row=self.row[adv],
            adv_ts=self.ts[adv] if irregular else self.anchor[seg[adv]] + self.row[adv] * (layout.step or 0.0),
            adv_values=rows[order],
            adv_restarted=self.anew[seg[adv]] & (self.row[adv] == 0),
            scored=scored,
            gather=gather,
        )

    def _settle(self, filled: Bool) -> Settled:
        layout, slot = self.layout, self.segments.slot
        if layout.step is None:
            return settle_irregular(self.segments, self.ts, self.rings.last_ts[slot])
        return settle_grid(
            self.segments,
            self.ts,
            anchor=self.anchor,
            head=self.head,
            filled=filled,
            step=layout.step,
            lateness=layout.lateness,
        )

    def _rows_held(self) -> F32:
        """Return what the samples `new` put into the ring, float32[p, F]; counters move on."""
        columns, raw = self.layout.counter_columns, self.rings.raw
        rows = self.values[self.segments.sample[self.new]]
        if len(columns):
            moving = self.settled.advance[self.new]
            at = self.new[moving]
            seg = self.segments.seg[at]
            # A late fill has no rate: the counter's way past it is in the rate of the row after it.
            rate = np.full((len(self.new), len(columns)), np.nan)
            if len(at):
                start = np.concatenate(([0], np.flatnonzero(seg[1:] != seg[:-1]) + 1))
                slot = self.segments.slot[seg[start]]
                number = np.repeat(np.arange(len(start)), np.diff(start, append=len(seg)))
                rate[moving], raw[slot] = rates(
                    rows[moving][:, columns], self.ts[at], start=start, seg=number, last=raw[slot]
                )
            rows[:, columns] = rate
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            return rows.astype(np.float32)

    def _gather(self, rows: F32, scored: I64) -> Gather:
        """Keep what the windows of the samples `scored` need, before the ring is overwritten."""
        if not len(scored):
            return Gather.nothing(self.layout)
        segments, settled, timeline = self.segments, self.settled, self.timeline
        seg = segments.seg[scored]
        wanted = np.zeros(len(segments.slot), np.bool_)
        wanted[seg] = True
        place = segments.slot[wanted][:, None], self.held[wanted]
        laid, base = lay_out_values(segments, settled, timeline, wanted=wanted, old=self.rings.rows[place], new=rows)
        when = None
        if self.layout.step is None:
            old, new = self.rings.times[place][:, :, None], self.ts[self.new][:, None]
            when = lay_out_values(segments, settled, timeline, wanted=wanted, old=old, new=new)[0][:, 0]
        hidden = None
        if settled.fill.any():
            hidden = ~timeline.visible(timeline.base[seg] + settled.head[scored], scored)
        return Gather(
            window=self.layout.window,
            rows=laid,
            start=base[seg] + settled.head[scored],
            hidden=hidden,
            row=self.row[scored],
            anchor=self.anchor[seg],
            step=self.layout.step,
            when=when,
        )

    def _write(self, rows: F32) -> None:
        """Write the rows that are still in their windows into the rings, and move the heads."""
        rings, segments, settled, width = self.rings, self.segments, self.settled, self.layout.window
        slot, seg, grown, new = segments.slot, segments.seg, self.timeline.grown, self.new
        head = self.head + grown
        jumped = np.flatnonzero(grown > np.bincount(seg[settled.advance], minlength=len(slot)))
        if len(jumped):
            which, at = np.nonzero(self.timeline.emptied(jumped))
            entity = jumped[which]
            skipped = slot[entity], (head[entity] + 1 + at) % width
            rings.rows[skipped] = np.nan
            rings.filled[skipped] = False
        stays = settled.rel[new] > grown[seg[new]] - width
        if not stays.all():
            new, rows = new[stays], rows[stays]
        place = slot[seg[new]], self.row[new] % width
        rings.rows[place] = rows
        rings.filled[place] = True
        if self.layout.step is None:
            rings.times[place] = self.ts[new]
        rings.head[slot] = head
        last = np.flatnonzero(settled.advance)
        last = last[np.append(seg[last][1:] != seg[last][:-1], True)] if len(last) else last
        rings.last_ts[slot[seg[last]]] = self.ts[last]

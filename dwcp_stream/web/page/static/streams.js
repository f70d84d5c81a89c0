// A card for each stream: what fires, how much comes in, how far behind it is.

import { Chart } from "/static/charts.js";
import { byId, h, text } from "/static/dom.js";
import { count, duration, number } from "/static/format.js";

const POINTS = 120;
const PARTS = ["firing", "entities", "rate", "lag", "age", "latency"];
const cards = new Map();

function card(stream) {
  const parts = Object.fromEntries(PARTS.map((name) => [name, h("dd")]));
  const state = h("span", { class: "chip" });
  const chart = new Chart({ title: `${stream.name}: samples a second`, series: [{ label: "samples/s", colour: "accent", fill: "accent-soft" }], height: 44, spark: true, floor: 0 });
  const named = (name, label) => h("div", {}, h("dt", {}, label), parts[name]);
  const about = h("p", { class: "dim about" });
  const node = h("article", { class: "panel card", "aria-label": `stream ${stream.name}` },
    h("div", { class: "head" }, h("h3", {}, stream.name), state),
    about,
    h("dl", {}, named("firing", "firing"), named("entities", "entities"), named("rate", "samples/s"), named("lag", "lag"), named("age", "newest data"), named("latency", "alert latency p50")),
    chart.node);
  return { node, parts, state, about, chart, times: [], rates: [], before: null };
}

/** Take the numbers of all streams at a time. */
export function showStreams(streams, now) {
  const host = byId("streams");
  for (const stream of streams) {
    if (!stream.name) continue;
    let held = cards.get(stream.name);
    if (!held) {
      held = card(stream);
      cards.set(stream.name, held);
      host.append(held.node);
    }
    update(held, stream, now);
  }
}

function update(held, stream, now) {
  const { parts, state } = held;
  text(held.about, stream.description ?? "");
  const silent = Object.entries(stream.silent ?? {});
  const unmet = stream.not_ready ?? [];
  const word = silent.length ? "no answer" : unmet.length ? `not ready: ${unmet.join(", ")}` : stream.outcomes ? "ready" : "waiting";
  text(state, word);
  state.className = `chip ${word === "ready" ? "good" : word === "waiting" ? "quiet" : "critical"}`;
  state.title = silent.map(([address, why]) => `${address}: ${why}`).join("\n");
  text(parts.firing, count(stream.firing));
  parts.firing.className = stream.firing ? "big alarmed" : "big";
  text(parts.entities, count(stream.count));
  text(parts.lag, count(stream.lag));
  parts.lag.className = stream.lag > 1000 ? "alarmed" : "";
  text(parts.age, stream.watermark ? ago(now - stream.watermark) : "–");
  text(parts.latency, duration(stream.latency?.p50 ?? null));
  if (!stream.outcomes) return;
  const total = Object.values(stream.outcomes).reduce((sum, n) => sum + n, 0);
  if (held.before && now > held.before.now && total >= held.before.total) {
    const rate = (total - held.before.total) / (now - held.before.now);
    held.times.push(now);
    held.rates.push(rate);
    if (held.times.length > POINTS) {
      held.times.shift();
      held.rates.shift();
    }
    const recent = held.rates.slice(-10);
    const mean = recent.reduce((sum, n) => sum + n, 0) / recent.length;
    text(parts.rate, number(mean, 3));
    held.chart.update([held.times, held.rates], `${number(mean)} now`);
  }
  held.before = { now, total };
}

const ago = (seconds) => (seconds < -1 ? `${duration(-seconds)} ahead` : `${duration(Math.max(0, seconds))} ago`);

// One entity: score against threshold, what each field contributed, forecasts with what came, the fields over the window.

import { causes, lasted } from "/static/alerts.js";
import { Chart } from "/static/charts.js";
import { PagedTable, byId, h, severityChip, text } from "/static/dom.js";
import { duration, number, quantity, time, words } from "/static/format.js";

const EVERY = 1000;
const LINES = ["accent", "second", "third"];
let open = null;

export function closeEntity() {
  if (!open) return;
  clearTimeout(open.timer);
  for (const chart of open.charts.values()) chart.destroy();
  open = null;
  byId("entity").replaceChildren();
}

export function openEntity(stream, name) {
  closeEntity();
  const part = (title, note) => {
    const body = h("div");
    return { body, node: h("section", { class: "panel", "aria-label": title }, h("div", { class: "head" }, h("h2", {}, title), note ? h("span", { class: "dim" }, note) : null), body) };
  };
  const parts = {
    score: part("Score against threshold", "1 is the threshold"), fields: part("What each field contributed"),
    forecast: part("Forecast and what really came", "80 % interval, corrected"), window: part("Fields over the window"), alerts: part("Alerts of this entity"),
  };
  const title = h("h1", { id: "h-entity", tabindex: "-1" }, name);
  const state = h("span"), facts = h("p", { class: "dim" }, "asking the worker");
  byId("entity").replaceChildren(
    h("nav", { "aria-label": "Where you are" }, h("a", { href: "#/" }, "Overview"), h("span", { class: "dim" }, ` / ${stream} /`)),
    h("div", { class: "head title" }, title, state), facts,
    h("div", { class: "columns" }, parts.score.node, parts.fields.node), parts.forecast.node, parts.window.node, parts.alerts.node);
  parts.forecast.node.hidden = true;
  const table = new PagedTable(parts.fields.body, {
    caption: "What each field contributed", size: 10, empty: "no field has a value yet",
    columns: [["field"], ["contribution"], ["now", "n"], ["expected", "n"], ["window", "n"]], key: (row) => row.name,
    row: (row) => [row.name, bar(row), row.now, row.expected, row.range],
  });
  const alerts = new PagedTable(parts.alerts.body, {
    caption: "Alerts of this entity", size: 5, empty: "none in the last seven days",
    columns: [["began"], ["severity"], ["model"], ["what stood out"], ["score", "n"], ["lasted", "n"]], key: (row) => row.key,
    row: (row) => [time(row.starts_at), severityChip(row.severity, row.resolved), row.model, causes(row), number(row.score), lasted(row, Date.now() / 1000)],
  });
  open = { stream, name, parts, state, facts, table, alerts, charts: new Map(), timer: 0 };
  document.title = `${name} · dwcp-stream`;
  scrollTo(0, 0);
  title.focus({ preventScroll: true });
  refresh(open);
}

async function refresh(mine) {
  try {
    const answer = await fetch(`/api/entities/${encodeURIComponent(mine.stream)}/${encodeURIComponent(mine.name)}`);
    if (mine !== open) return;
    if (answer.ok) {
      const data = await answer.json();
      if (mine !== open) return;
      if (!document.hidden) show(mine, data);
    } else if (answer.status === 404) text(mine.facts, "no worker has this entity: it has been silent for too long, or its worker does not answer");
  } catch {
    if (mine === open) text(mine.facts, "no connection; trying again");
  }
  if (mine === open) mine.timer = setTimeout(() => refresh(mine), EVERY);
}

function chartOf(mine, key, host, options) {
  let chart = mine.charts.get(key);
  if (!chart) {
    chart = new Chart(options);
    mine.charts.set(key, chart);
    host.append(chart.node);
  }
  return chart;
}

function bar({ share, name }) {
  if (share === null) return "–";
  const fill = h("i");
  fill.style.width = `${Math.round(100 * share)}%`;
  return h("span", { class: "bar100", role: "img", "aria-label": `${name} contributed ${Math.round(100 * share)} %` }, fill, h("b", {}, `${Math.round(100 * share)} %`));
}

function show(mine, data) {
  const severities = data.models.map((said) => said.severity).filter(Boolean);
  mine.state.replaceChildren(severityChip(severities.sort((a, b) => rank(b) - rank(a))[0]));
  const times = data.times.filter((at) => at !== null);
  text(mine.facts, `newest sample ${time(times.at(-1))} · partition ${data.partition}, offset ${data.offset} · ` +
    data.models.map((said) => `${said.model.name} v${said.model.version}${said.kind ? `: ${words(said.kind)}` : ""}${said.probability !== null ? `: probability ${number(said.probability)}` : ""}`).join(" · "));
  showScores(mine, data);
  showFields(mine, data);
  showForecasts(mine, data);
  showWindow(mine, data);
  mine.alerts.show(data.alerts);
}

const rank = (severity) => ["warning", "critical", "emergency"].indexOf(severity);

function showScores(mine, data) {
  const names = data.models.map((said) => said.model.name);
  const at = [...new Set(names.flatMap((name) => data.scores[name].map(([when]) => when)))].sort((a, b) => a - b);
  const columns = names.map((name) => {
    const held = new Map(data.scores[name]);
    return at.map((when) => held.get(when) ?? null);
  });
  const [, critical, emergency] = data.models[0]?.model.severity ?? [1, null, null];
  const heights = [[1, "warning", "threshold"], ...(critical ? [[critical, "critical", "critical"]] : []), ...(emergency ? [[emergency, "emergency", "emergency"]] : [])];
  const chart = chartOf(mine, "score", mine.parts.score.body, {
    title: "Score", height: 320, floor: 0, heights, series: names.map((label, i) => ({ label, colour: LINES[i % LINES.length], width: 2, span: true, points: at.length < 3 })),
  });
  chart.update([at, ...columns], data.models.map((said) => `${said.model.name} ${number(said.score)}, threshold 1`).join("; "));
}

function showFields(mine, data) {
  const told = data.models.find((said) => said.contributions?.some((value) => value > 0)) ?? data.models.find((said) => said.expected?.some((value) => value !== null)) ?? data.models[0];
  const index = new Map((told?.fields ?? []).map((name, i) => [name, i]));
  const weights = (told?.contributions ?? []).map((value) => Math.max(0, value ?? 0));
  const total = weights.reduce((sum, value) => sum + value, 0);
  const rows = data.fields.map((field) => {
    const i = index.get(field.name);
    const held = field.values.filter((value) => value !== null);
    const word = (value) => (value === null || value === undefined ? "–" : field.vocabulary.length ? field.vocabulary[Math.round(value)] ?? "?" : quantity(value, rate(field)));
    return {
      name: field.name, share: i === undefined || !told?.contributions ? null : total ? weights[i] / total : 0,
      now: word(held.at(-1)), expected: i === undefined ? "–" : word(told?.expected?.[i]),
      range: field.vocabulary.length || !held.length ? "–" : `${number(Math.min(...held))} to ${number(Math.max(...held))}`,
    };
  });
  mine.table.show(rows.filter((row) => row.now !== "–").sort((a, b) => (b.share ?? -1) - (a.share ?? -1)));
}

const rate = (field) => (field.kind === "counter" ? `${field.unit === "1" ? "" : field.unit}/s` : field.unit);

/** What was forecast for each time, by the shortest horizon for the past, and by the last forecast for what is to come. */
function fan(forecasts, target, newest) {
  const points = new Map();
  for (const forecast of forecasts) {
    const [, at, corrected] = forecast.horizons[0];
    if (at <= newest && corrected[target]) points.set(at, corrected[target]);
  }
  for (const [, at, corrected] of forecasts.at(-1)?.horizons ?? []) {
    if (at > newest && corrected[target]) points.set(at, corrected[target]);
  }
  return points;
}

function showForecasts(mine, data) {
  for (const said of data.models.filter((one) => one.model.task === "forecast")) {
    const forecasts = data.forecasts[said.model.name];
    if (!forecasts.length) continue;
    mine.parts.forecast.node.hidden = false;
    mine.parts.forecast.body.className = "multiples wide";
    for (const target of said.model.targets) {
      const field = data.fields.find((one) => one.name === target);
      const actual = new Map(data.times.map((at, i) => [at, field.values[i]]).filter(([at]) => at !== null));
      const newest = Math.max(...actual.keys());
      const points = fan(forecasts, target, newest + 0.001);
      const first = Math.min(...actual.keys());
      const at = [...new Set([...actual.keys(), ...points.keys()])].filter((when) => when >= first).sort((a, b) => a - b);
      const column = (part) => at.map((when) => points.get(when)?.[part] ?? null);
      const title = `${target}${field.unit === "1" ? "" : `, ${field.unit}`}`;
      const chart = chartOf(mine, `forecast ${target}`, mine.parts.forecast.body, {
        title: `Forecast of ${title}`, height: 200, sync: "forecast", bands: [[2, 1, "band"]],
        series: [
          { label: "q10", colour: "band-edge", width: 1, span: true }, { label: "q90", colour: "band-edge", width: 1, span: true },
          { label: "median", colour: "second", dash: [5, 4], span: true }, { label: "came", colour: "text", width: 2, span: true },
        ],
      });
      if (!chart.node.querySelector("figcaption")) chart.node.prepend(h("figcaption", {}, title));
      const last = points.get(at.at(-1));
      chart.update([at, column(0), column(2), column(1), at.map((when) => actual.get(when) ?? null)],
        last ? `${quantity(last[0], field.unit)} to ${quantity(last[2], field.unit)} expected at ${time(at.at(-1))}` : "no forecast");
    }
  }
}

function showWindow(mine, data) {
  mine.parts.window.body.className = "multiples";
  const at = data.times.map((when, i) => [when, i]).filter(([when]) => when !== null);
  for (const field of data.fields) {
    const held = field.values.filter((value) => value !== null);
    if (!held.length || field.kind === "constant" || field.vocabulary.length) continue;
    const unit = rate(field);
    const title = `${field.name}${unit === "1" || unit === "" ? "" : `, ${unit}`}`;
    const chart = chartOf(mine, `field ${field.name}`, mine.parts.window.body, {
      title, height: 96, sync: "window", series: [{ label: field.name, colour: "accent", fill: "accent-soft", span: true, points: held.length < 3 }],
    });
    if (!chart.node.querySelector("figcaption")) {
      chart.node.prepend(h("figcaption", { title: field.description }, h("span", {}, title), h("b", {})));
      chart.node.classList.add("small");
    }
    text(chart.node.querySelector("b"), number(held.at(-1)));
    chart.update([at.map(([when]) => when), at.map(([, i]) => field.values[i])],
      `${number(held.at(-1))} now, ${number(Math.min(...held))} to ${number(Math.max(...held))} in ${duration(at.at(-1)[0] - at[0][0])}`);
  }
}

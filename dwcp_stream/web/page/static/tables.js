// Models and arms, decisions, realised accuracy, drift and accounting.

import { PagedTable, byId, h } from "/static/dom.js";
import { count, duration, number, percent, time, words } from "/static/format.js";

const tables = {};
const chip = (word, kind) => h("span", { class: `chip ${kind}` }, words(word));
const DRIFT = { stable: "good", warning: "warning", drifted: "critical" };
const DECIDED = { promoted: "good", rolled_back: "critical", failed: "critical", rejected: "warning", dropped: "warning" };

export function startTables() {
  tables.models = new PagedTable(byId("models"), {
    caption: "Models and their arms", empty: "no model serves yet",
    columns: [["model"], ["stream"], ["arm"], ["version", "n"], ["beside champion", "n"], ["alarms: both / champion / arm", "n"], ["last word"]],
    key: (row) => `${row.stream}/${row.model}/${row.arm}`,
    row: (row) => [row.model, row.stream, chip(row.arm, row.arm === "champion" ? "good" : "quiet"), row.version || "none", row.n === undefined ? "–" : count(row.n),
      row.n === undefined ? "–" : `${count(row.both)} / ${count(row.only_champion)} / ${count(row.only_arm)}`, row.said ?? "–"],
  });
  tables.decisions = new PagedTable(byId("decisions"), {
    caption: "Last decisions", size: 6, empty: "none yet: the trainer decides",
    columns: [["model"], ["decision"], ["version", "n"], ["why"], ["at", "n"]],
    key: (row) => `${row.model}/${row.version}/${row.decision}/${row.event_time}`,
    row: (row) => [row.model, chip(row.decision, DECIDED[row.decision] ?? "quiet"), row.version || "–", row.reason, time(row.event_time)],
  });
  tables.accuracy = new PagedTable(byId("accuracy"), {
    caption: "Realised accuracy", size: 12, empty: "no forecast has met its target time yet",
    columns: [["target"], ["model"], ["arm"], ["steps ahead", "n"], ["forecasts", "n"], ["MAE, hour", "n"], ["MAE, day", "n"], ["skill, day", "n"], ["in the 80 % interval, day", "n"]],
    key: (row) => row.key,
    row: (row) => [row.target, `${row.model} v${row.version}`, row.arm, row.horizon, count(row.n), number(row.hour?.mae), number(row.mae), number(row.skill), percent(row.coverage)],
  });
  tables.accounting = new PagedTable(byId("accounting"), {
    caption: "Accounting", empty: "no worker answers",
    columns: [["stream"], ["samples", "n"], ["scored", "n"], ["warming up", "n"], ["duplicate", "n"], ["late", "n"], ["invalid", "n"], ["replayed", "n"], ["dead letters", "n"], ["errors", "n"], ["lag", "n"], ["checkpoint", "n"]],
    key: (row) => row.name,
    row: (row) => [row.name, count(row.total), ...["scored", "warming_up", "duplicate", "late", "invalid"].map((name) => count(row.outcomes[name])),
      count(row.replayed), count(row.dead_letters), count(row.errors), count(row.lag), row.checkpoint ? `${duration(row.now - row.checkpoint)} ago` : "–"],
  });
  tables.drift = new PagedTable(byId("drift"), {
    caption: "Drift", size: 8, empty: "all stable since the beginning",
    columns: [["model"], ["partition", "n"], ["state"], ["why"], ["since", "n"]],
    key: (row) => `${row.stream}/${row.model}/${row.partition}`,
    row: (row) => [`${row.stream} · ${row.model}`, row.partition, chip(row.state, DRIFT[row.state]), row.reasons.join(", ") || "–", time(row.event_time)],
  });
}

let streams = [];
let last = null;

function modelRows() {
  const rows = new Map();
  for (const stream of streams) {
    for (const model of stream.models ?? []) {
      rows.set(`${stream.name}/${model.name}/champion`, { stream: stream.name, model: model.name, arm: "champion", version: model.version, said: model.degraded ? "untrained: learns as it goes" : null });
    }
  }
  for (const event of last?.serving ?? []) {
    const key = `${event.stream}/${event.model}/${event.alias || "champion"}`;
    const said = event.action === "refused" ? `refused: ${event.reason}` : event.version ? `loaded ${time(event.event_time)}` : "none";
    const row = rows.get(key) ?? { stream: event.stream, model: event.model, arm: event.alias, version: event.serving };
    rows.set(key, { ...row, said: row.said ?? said });
  }
  for (const arm of last?.arms ?? []) {
    const key = `${arm.stream}/${arm.model}/${arm.arm}`;
    rows.set(key, { said: null, ...rows.get(key), stream: arm.stream, model: arm.model, ...arm });
  }
  return [...rows.values()].sort((a, b) => a.stream.localeCompare(b.stream) || a.model.localeCompare(b.model) || a.arm.localeCompare(b.arm));
}

export function showAccounting(all, now) {
  streams = all.filter((stream) => stream.name);
  tables.accounting.show(streams.filter((stream) => stream.outcomes).map((stream) => ({
    ...stream, now: Math.round(now), lists: null, total: Object.values(stream.outcomes).reduce((sum, n) => sum + n, 0),
  })));
  tables.models.show(modelRows());
}

export function showTables(data) {
  last = data;
  tables.models.show(modelRows());
  tables.decisions.show(data.decisions);
  const order = { drifted: 0, warning: 1, stable: 2 };
  tables.drift.show([...data.drift].sort((a, b) => order[a.state] - order[b.state] || b.event_time.localeCompare(a.event_time)));
  const line = (row) => [row.stream, row.model, row.version, row.arm, row.horizon, row.target].join("/");
  const hours = new Map(data.forecasts.hour.map((row) => [line(row), row]));
  tables.accuracy.show(data.forecasts.day.map((row) => ({ ...row, key: line(row), hour: hours.get(line(row)) })));
}

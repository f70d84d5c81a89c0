// The alerts, what fires first, with what caused them.

import { Choice, PagedTable, byId, entityLink, h, severityChip, text } from "/static/dom.js";
import { duration, epoch, number, quantity, time, words } from "/static/format.js";

const alerts = new Map();
const RANK = { emergency: 3, critical: 2, warning: 1 };
const KEPT = 500;
let filter, table, wanted = false, clock = Date.now() / 1000;

/** What stood out, as nodes: field, value and what was expected. */
export function causes(alert) {
  const parts = alert.fields.map((field) => h("span", { class: "cause" }, h("b", {}, field.name), ` ${quantity(field.value, field.unit)}`,
    field.expected !== null && field.expected !== undefined ? h("span", { class: "dim" }, ` (expected ${quantity(field.expected, field.unit)})`) : null));
  const kind = alert.kind ? [h("span", { class: "kind" }, words(alert.kind))] : [];
  return kind.concat(parts.length ? parts : [h("span", { class: "dim" }, "no single field")]);
}

export function lasted(alert, now) {
  return duration((alert.ends_at ? epoch(alert.ends_at) : Math.max(now, epoch(alert.event_time))) - epoch(alert.starts_at));
}

export function startAlerts() {
  filter = new Choice(byId("alert-filter"), () => draw());
  table = new PagedTable(byId("alerts"), {
    caption: "Alerts", size: 8, empty: "no alerts",
    columns: [["entity"], ["severity"], ["what stood out"], ["score", "n"], ["since", "n"]],
    key: (alert) => alert.key,
    signature: (alert) => `${alert.event_time} ${alert.severity} ${alert.resolved} ${alert.resolved ? "" : lasted(alert, clock)}`,
    row: (alert) => [
      [entityLink(alert.stream, alert.entity), h("span", { class: "dim under" }, `${alert.stream} · ${alert.model}`)],
      severityChip(alert.severity, alert.resolved), causes(alert), number(alert.score),
      [h("span", {}, time(alert.starts_at)), h("span", { class: "dim under" }, `${alert.resolved ? "for " : ""}${lasted(alert, clock)}`)],
    ],
  });
}

export function setAlerts(rows) {
  alerts.clear();
  for (const row of rows) alerts.set(row.key, row);
  draw();
}

export function changeAlert(row) {
  alerts.set(row.key, row);
  if (alerts.size > KEPT) alerts.delete(alerts.keys().next().value);
  if (row.severity !== "warning" || !row.resolved) text(byId("said"), row.summary);
  if (!wanted) {
    wanted = true;
    requestAnimationFrame(() => {
      wanted = false;
      draw();
    });
  }
}

/** Let durations go on. */
export function tick(now) {
  clock = now;
  draw();
}

function draw() {
  const all = [...alerts.values()];
  const firing = all.filter((alert) => !alert.resolved);
  filter.show([["all", `all ${all.length}`], ["firing", `firing ${firing.length}`], ["resolved", `resolved ${all.length - firing.length}`]]);
  const shown = filter.value === "firing" ? firing : filter.value === "resolved" ? all.filter((alert) => alert.resolved) : all;
  table.show(shown.sort((a, b) => a.resolved - b.resolved || (a.resolved ? 0 : RANK[b.severity] - RANK[a.severity]) || b.event_time.localeCompare(a.event_time)));
}

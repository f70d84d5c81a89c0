// All entities of a stream as cells coloured by score, and a table of those that score highest, or that are searched.

import { Choice, PagedTable, byId, entityLink, h, severityChip, text } from "/static/dom.js";
import { number, time } from "/static/format.js";

const streams = new Map();
const order = new Intl.Collator("en", { numeric: true });
let tabs, table, list, legend, search, chosen = false, shown = "", active = null, found = null, drawn = new Map(), wanted = false;

/** How a cell looks: its severity, or one of five steps up to the threshold. */
function level([, , score, severity]) {
  if (severity) return severity;
  if (score === null) return "unknown";
  return `s${Math.min(4, Math.max(0, Math.floor(score * 5)))}`;
}

const words = ([name, , score, severity]) => `${name}, ${severity ? `${severity} alert, ` : ""}${score === null ? "no score yet" : `score ${number(score)}`}`;

export function startEntities(open) {
  tabs = new Choice(byId("stream-tabs"), () => {
    chosen = true;
    draw(true);
  });
  list = h("div", { class: "cells", role: "listbox", tabindex: "0", "aria-label": "Entities by name, coloured by score" });
  const what = h("p", { class: "dim what", "aria-hidden": "true" }, " ");
  legend = h("p", { class: "legend", "aria-hidden": "true" },
    "calm ", ...["s0", "s1", "s2", "s3", "s4"].map((name) => h("i", { class: `cell ${name}` })), " threshold ",
    ...["warning", "critical", "emergency"].map((name) => [h("i", { class: `cell ${name}` }), ` ${name} `]).flat(), h("i", { class: "cell unknown" }), " no score");
  byId("heat").append(list, what, legend);
  const pick = (cell) => {
    active?.removeAttribute("aria-selected");
    active = cell;
    if (!cell) return;
    cell.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", cell.id);
    text(what, cell.getAttribute("aria-label"));
  };
  list.addEventListener("mouseover", (event) => event.target.role === "option" && text(what, event.target.getAttribute("aria-label")));
  list.addEventListener("click", (event) => event.target.role === "option" && open(shown, event.target.dataset.entity));
  list.addEventListener("focus", () => pick(active?.isConnected ? active : list.firstElementChild));
  list.addEventListener("keydown", (event) => {
    const cells = [...list.children];
    const at = cells.indexOf(active);
    const across = cells.filter((cell) => cell.offsetTop === cells[0].offsetTop).length;
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: cells.length - 1 - at }[event.key];
    if (move !== undefined) {
      pick(cells[Math.min(cells.length - 1, Math.max(0, at + move))]);
      active.scrollIntoView({ block: "nearest" });
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && active) {
      open(shown, active.dataset.entity);
      event.preventDefault();
    }
  });
  search = h("input", { id: "search", type: "search", placeholder: "Find an entity", autocomplete: "off", oninput: () => find() });
  const host = h("div");
  byId("entities").append(h("label", { class: "search" }, h("span", { class: "hidden" }, "Find an entity"), search), host);
  table = new PagedTable(host, {
    caption: "Entities by score", size: 12, empty: "no entity",
    columns: [["entity"], ["state"], ["score", "n"], ["newest sample", "n"]],
    key: (row) => row[0], row: (row) => [entityLink(shown, row[0]), severityChip(row[3]), number(row[2]), time(row[1])],
  });
}

let asked = 0;
async function find() {
  const like = search.value.trim();
  const mine = ++asked;
  found = null;
  if (like) {
    try {
      const answer = await fetch(`/api/entities/${encodeURIComponent(shown)}?like=${encodeURIComponent(like)}`);
      const rows = answer.ok ? await answer.json() : [];
      if (mine !== asked) return;
      found = rows;
    } catch {
      return; // no connection, which the head of the page says
    }
  }
  table.page = 0;
  later();
}

/** Take all rows of all streams: [name, time, score, severity]. */
export function setEntities(entities) {
  streams.clear();
  for (const [stream, rows] of Object.entries(entities)) streams.set(stream, new Map(rows.map((row) => [row[0], row])));
  drawn = new Map();
  later();
}

/** Take what changed of one stream. */
export function changeEntities({ stream, changed, gone }) {
  if (!streams.has(stream)) streams.set(stream, new Map());
  const rows = streams.get(stream);
  for (const row of changed) rows.set(row[0], row);
  for (const name of gone) rows.delete(name);
  later();
}

function later() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    draw(false);
  });
}

function draw(switched) {
  if (!chosen) tabs.value = busiest() ?? tabs.value;
  tabs.show([...streams.keys()].sort().map((name) => [name, `${name} ${streams.get(name).size}`]));
  if (switched || shown !== tabs.value) {
    shown = tabs.value;
    drawn = new Map();
    active = null;
    list.replaceChildren();
    search.value = "";
    found = null;
  }
  const rows = streams.get(shown) ?? new Map();
  const names = [...rows.keys()];
  if (names.length !== drawn.size || names.some((name) => !drawn.has(name))) arrange(names.sort(order.compare));
  for (const [name, row] of rows) {
    const cell = drawn.get(name);
    const kind = `cell ${level(row)}`;
    if (cell.className !== kind) cell.className = kind;
    if (cell.row !== row) {
      cell.row = row;
      cell.setAttribute("aria-label", words(row));
    }
  }
  const sorted = found ? found.map((row) => rows.get(row[0]) ?? row) : [...rows.values()];
  table.show(sorted.sort(worst));
}

const RANK = { emergency: 3, critical: 2, warning: 1 };
const worst = (a, b) => (RANK[b[3]] ?? 0) - (RANK[a[3]] ?? 0) || (b[2] ?? -1) - (a[2] ?? -1) || order.compare(a[0], b[0]);

/** The first stream in which something fires, until somebody has chosen one. */
const busiest = () => [...streams].find(([name, rows]) => [...rows.values()].some((row) => row[3]) && name)?.[0];

function arrange(names) {
  const before = drawn;
  drawn = new Map(names.map((name) => [name, before.get(name) ?? h("div", { role: "option", "data-entity": name })]));
  let n = 0;
  for (const cell of drawn.values()) cell.id = `cell-${n++}`;
  list.replaceChildren(...drawn.values());
}

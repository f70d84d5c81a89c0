// Building and updating the document without a framework: nodes, tables with pages, choices.

/** A node: tag, attributes (on* are listeners, "class" and data work as in HTML), children (text is text, never HTML). */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set text only where it changed, so that nothing is laid out for nothing. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function severityChip(severity, resolved = false) {
  const word = resolved ? "resolved" : severity ?? "quiet";
  return h("span", { class: `chip ${resolved ? "resolved" : severity ?? "quiet"}` }, word);
}

export const entityLink = (stream, entity, label = entity) =>
  h("a", { href: `#/${encodeURIComponent(stream)}/${encodeURIComponent(entity)}`, class: "entity", "data-entity": entity }, label);

/**
 * A table of any number of rows, one page at a time. Rows are kept as long as their signature stays, so an update
 * touches what changed and the focus stays where it is.
 */
export class PagedTable {
  /** columns: [title, class]; row(item) -> cells; key(item) -> text; size: rows per page. */
  constructor(host, { caption, columns, row, key, size = 12, empty = "nothing yet", signature = JSON.stringify }) {
    Object.assign(this, { columns, row, key, size, signature });
    this.page = 0;
    this.items = [];
    this.rows = new Map();
    this.body = h("tbody");
    const heads = columns.map(([title, kind]) => h("th", { scope: "col", class: kind ?? "" }, title));
    this.table = h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads)), this.body);
    this.empty = h("p", { class: "empty" }, empty);
    this.label = h("span", { class: "dim" });
    this.back = h("button", { type: "button", class: "quiet", "aria-label": `${caption}: page before`, onclick: () => this.turn(-1) }, "‹");
    this.next = h("button", { type: "button", class: "quiet", "aria-label": `${caption}: next page`, onclick: () => this.turn(1) }, "›");
    this.pager = h("div", { class: "pager" }, this.back, this.label, this.next);
    host.replaceChildren(h("div", { class: "scroll" }, this.table), this.empty, this.pager);
    this.show([]);
  }

  turn(by) {
    this.page += by;
    this.show(this.items);
  }

  show(items) {
    this.items = items;
    const pages = Math.max(1, Math.ceil(items.length / this.size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const shown = items.slice(this.page * this.size, (this.page + 1) * this.size);
    const kept = new Map();
    shown.forEach((item, place) => {
      const key = this.key(item);
      const signature = this.signature(item);
      let held = this.rows.get(key);
      if (!held || held.signature !== signature) {
        const cells = this.row(item).map((cell, i) => {
          const parts = cell instanceof Node || Array.isArray(cell) ? cell : String(cell);
          const first = i === 0;
          return h(first ? "th" : "td", { scope: first ? "row" : null, class: this.columns[i][1] ?? "" }, parts);
        });
        const node = h("tr", { "data-key": key, class: item.className ?? null }, cells);
        const focused = held?.node.contains(document.activeElement);
        held?.node.replaceWith(node);
        if (focused) node.querySelector("a, button")?.focus();
        held = { node, signature };
      }
      kept.set(key, held);
      if (this.body.children[place] !== held.node) this.body.insertBefore(held.node, this.body.children[place] ?? null);
    });
    while (this.body.children.length > shown.length) this.body.lastElementChild.remove();
    this.rows = kept;
    this.table.hidden = !items.length;
    this.empty.hidden = items.length > 0;
    this.pager.hidden = pages === 1;
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
    text(this.label, `${this.page + 1} of ${pages} · ${items.length} in all`);
  }
}

/** Buttons of which one is pressed. */
export class Choice {
  constructor(host, chosen) {
    Object.assign(this, { host, chosen });
    this.value = null;
    this.names = "";
  }

  show(options) {
    if (!options.some(([name]) => name === this.value)) this.value = options[0]?.[0] ?? null;
    if (options.map(([name]) => name).join() !== this.names) {
      this.names = options.map(([name]) => name).join();
      this.host.replaceChildren(...options.map(([name]) => h("button", { type: "button", "data-name": name, onclick: () => this.choose(name) })));
    }
    options.forEach(([name, label], i) => {
      text(this.host.children[i], label);
      this.host.children[i].setAttribute("aria-pressed", String(name === this.value));
    });
    this.options = options;
  }

  choose(name) {
    this.value = name;
    this.show(this.options);
    this.chosen(name);
  }
}

// The page: what the server sends goes to the parts that show it; the address says which entity is open.

import { changeAlert, setAlerts, startAlerts, tick } from "/static/alerts.js";
import { recolour } from "/static/charts.js";
import { byId, text } from "/static/dom.js";
import { changeEntities, setEntities, startEntities } from "/static/entities.js";
import { closeEntity, openEntity } from "/static/entity.js";
import { showStreams } from "/static/streams.js";
import { showAccounting, showTables, startTables } from "/static/tables.js";
import { themeButton } from "/static/theme.js";

const status = byId("status");
let from = null;

function say(word, kind) {
  text(status, word);
  status.className = `status ${kind}`;
}

function streams({ streams: all, now, reading, unreadable }) {
  showStreams(all, now);
  showAccounting(all, now);
  tick(now);
  const silent = all.flatMap((stream) => Object.keys(stream.silent ?? {}));
  if (reading) say(`topics cannot be read: ${reading}`, "bad");
  else if (silent.length) say(`no answer from ${silent.join(", ")}`, "bad");
  else say(unreadable ? `live; ${unreadable} records cannot be read` : "live", "good");
}

function route() {
  const [stream, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const name = rest.join("/");
  if (location.hash === "#content") return;
  byId("overview").hidden = Boolean(name);
  byId("entity").hidden = !name;
  if (name) {
    from ??= document.activeElement?.dataset?.entity ? document.activeElement : null;
    openEntity(stream, name);
  } else {
    closeEntity();
    document.title = "dwcp-stream";
    if (from?.isConnected) from.focus();
    from = null;
  }
}

startAlerts();
startEntities((stream, name) => {
  from = document.activeElement;
  location.hash = `#/${encodeURIComponent(stream)}/${encodeURIComponent(name)}`;
});
startTables();
themeButton(byId("theme"), recolour);
addEventListener("hashchange", route);
route();

const source = new EventSource("/events");
const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
on("snapshot", (all) => {
  setEntities(all.entities);
  setAlerts(all.alerts);
  showTables(all.tables);
  streams(all.streams);
});
on("streams", streams);
on("entities", changeEntities);
on("alert", changeAlert);
on("tables", showTables);
source.addEventListener("error", () => say("no connection; trying again", "bad"));

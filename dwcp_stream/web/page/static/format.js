// Numbers, times and durations as text.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const SHORT = { "Mbit/s": "Mbit/s", By: "B", "By/s": "B/s", ratio: "", 1: "" };
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A number in few digits; a dash where there is none. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "string") return value;
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e5) return whole.format(value);
  if (size >= 1e9) return `${(value / 1e9).toPrecision(digits)} G`;
  if (size >= 1e6) return `${(value / 1e6).toPrecision(digits)} M`;
  if (size >= 1e4) return `${(value / 1e3).toPrecision(digits)} k`;
  if (size >= 100) return whole.format(value);
  if (size > 0 && size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

/** A number with its unit. */
export function quantity(value, unit) {
  const short = unit in SHORT ? SHORT[unit] : unit;
  const said = number(value);
  if (!short || value === null || value === undefined) return said;
  return /[GMk]$/.test(said) ? said + short : `${said} ${short}`;
}

export const count = (value) => (value === undefined || value === null ? "–" : whole.format(value));
export const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)} %`);

/** Seconds as the largest unit that fits. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const size = Math.max(0, seconds);
  if (size < 1) return size < 0.0005 ? "0 s" : `${Math.round(size * 1000)} ms`;
  for (const [unit, name] of UNITS) {
    if (size >= unit) return `${size / unit < 10 && unit > 1 ? Number((size / unit).toFixed(1)) : Math.floor(size / unit)} ${name}`;
  }
  return "0 s";
}

/** Local time of an RFC 3339 text or epoch seconds, with the date unless it is today. */
export function time(value) {
  if (value === null || value === undefined) return "–";
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  const same = date.toDateString() === new Date().toDateString();
  return same ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

export const epoch = (text) => Date.parse(text) / 1000;
export const words = (text) => String(text ?? "").replaceAll("_", " ");

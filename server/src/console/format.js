// Numbers, times and sizes as people read them.

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});
const whole = new Intl.NumberFormat();

/** A date and a time of day; a dash for what has not happened. */
export const date = text => (text ? dates.format(new Date(text)) : "–");

/** A time of day of milliseconds; with seconds where it belongs to a `span` of a few minutes. */
export const hour = (time, span = Infinity) => (span < 600_000 ? seconds : clock).format(time);

/** A time of day with milliseconds; with its date where it is another day. */
export function moment(text) {
  const time = new Date(text);
  const today = new Date().toDateString() === time.toDateString();
  return today ? exact.format(time) : `${dates.format(time)}`;
}

/** Milliseconds in three digits. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export const number = count => whole.format(count);

/** A part of a whole, as percent. */
export function percent(part) {
  if (part === 0) return "0%";
  if (part < 0.1) return "<0.1%";
  return `${part < 10 ? +part.toFixed(1) : Math.round(part)}%`;
}

/** `3 versions`, `1 version`. */
export const count = (number, one, many = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : many}`;

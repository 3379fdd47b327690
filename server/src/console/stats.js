// Figures of invocation records: counts, errors and percentiles.

/** The value below which `part` (0 to 1) of the sorted values lie; null without values. */
export function percentile(sorted, part) {
  if (sorted.length === 0) return null;
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(part * sorted.length) - 1))];
}

export const failed = record => record.status !== "success";

/** The figures of records. */
export function figures(records) {
  const sorted = records.map(record => record.duration_ms).sort((a, b) => a - b);
  const errors = records.filter(failed).length;
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map(part => percentile(sorted, part));
  return {
    count: records.length,
    errors,
    errorPercent: records.length ? (100 * errors) / records.length : 0,
    p50,
    p95,
    p99,
  };
}

/** Records by what `key` says of them: a list of `[key, records]`. */
export function grouped(records, key) {
  const groups = new Map();
  for (const record of records) {
    const name = key(record);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(record);
  }
  return [...groups];
}

/** `count` equal parts of the time from `from` to `to` (milliseconds), each with the figures of its records. */
export function buckets(records, from, to, count) {
  const width = Math.max(1, (to - from) / count);
  const parts = Array.from({ length: count }, () => []);
  for (const record of records) {
    const at = Math.floor((Date.parse(record.started_at) - from) / width);
    if (at >= 0 && at <= count) parts[Math.min(at, count - 1)].push(record);
  }
  return parts.map((part, at) => ({ from: from + at * width, to: from + (at + 1) * width, ...figures(part) }));
}

/** What is one record alone. */
export const identity = record => `${record.request_id} ${record.attempt} ${record.started_at}`;

/** Newest first, each once: `fresh` replaces what is known. At most `most`. */
export function merged(known, fresh, most) {
  const all = new Map(known.map(record => [identity(record), record]));
  for (const record of fresh) all.set(identity(record), record);
  return [...all.values()]
    .sort((a, b) => (a.started_at < b.started_at ? 1 : a.started_at > b.started_at ? -1 : 0))
    .slice(0, most);
}

/** How many of `fresh` are not known. */
export function unknown(known, fresh) {
  const all = new Set(known.map(identity));
  return fresh.filter(record => !all.has(identity(record))).length;
}

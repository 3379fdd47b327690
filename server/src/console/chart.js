// Charts of invocations, drawn as SVG.

import { el, svg } from "./dom.js";
import { count, duration, hour, number, percent } from "./format.js";

const [WIDTH, HEIGHT] = [480, 96];

/** The next number above that reads well on an axis. */
function top(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= value);
}

/** What a part of the time had, told where the pointer rests. */
function told(bucket) {
  const spent = bucket.count > 0 ? `, median ${duration(bucket.p50)}, 99th percentile ${duration(bucket.p99)}` : "";
  const width = bucket.to - bucket.from;
  const time = `${hour(bucket.from, width * 10)} to ${hour(bucket.to, width * 10)}`;
  return `${time}: ${count(bucket.count, "invocation")}, ${number(bucket.errors)} failed${spent}`;
}

function drawn(buckets, shapes) {
  const width = WIDTH / buckets.length;
  const touched = buckets.map((bucket, at) =>
    svg("rect", { class: "touch", x: at * width, y: 0, width, height: HEIGHT }, svg("title", {}, told(bucket))),
  );
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
    shapes,
    touched,
  );
}

function framed(title, summary, most, picture, buckets, legend) {
  const [from, to] = [buckets[0].from, buckets.at(-1).to];
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("strong", {}, title), el("span", { class: "quiet" }, summary)),
    el("div", { class: "plot" }, el("span", { class: "most quiet", "aria-hidden": "true" }, most), picture),
    el(
      "div",
      { class: "axis quiet", "aria-hidden": "true" },
      el("span", {}, hour(from, to - from)),
      legend,
      el("span", {}, hour(to, to - from)),
    ),
  );
}

function bars(title, summary, buckets, value, most, shown, kind) {
  const width = WIDTH / buckets.length;
  const bar = (bucket, at) => {
    const height = (HEIGHT * value(bucket)) / most;
    return (
      height > 0 &&
      svg("rect", {
        class: kind,
        x: at * width + width * 0.1,
        y: HEIGHT - Math.max(height, 1.5),
        width: width * 0.8,
        height: Math.max(height, 1.5),
      })
    );
  };
  return framed(title, summary, shown, drawn(buckets, buckets.map(bar)), buckets);
}

/** One line of a percentile; it is broken where nothing ran. */
function line(buckets, key, most) {
  const width = WIDTH / buckets.length;
  const [path, dots] = [[], []];
  let joined = false;
  buckets.forEach((bucket, at) => {
    if (bucket[key] === null) {
      joined = false;
      return;
    }
    const [x, y] = [((at + 0.5) * width).toFixed(1), (HEIGHT - HEIGHT * Math.min(1, bucket[key] / most)).toFixed(1)];
    path.push(`${joined ? "L" : "M"}${x} ${y}`);
    // A point alone would have no line.
    if (!joined && (buckets[at + 1]?.[key] ?? null) === null)
      dots.push(svg("path", { class: `dot ${key}`, d: `M${x} ${y}h0.01` }));
    joined = true;
  });
  return [svg("path", { class: `line ${key}`, d: path.join("") || "M0 0" }), dots];
}

/** Rate, errors and percentiles of one time, in parts. */
export function charts(buckets, whole) {
  const minutes = (buckets[0].to - buckets[0].from) / 60_000;
  const rate = bucket => bucket.count / minutes;
  const busiest = top(Math.max(...buckets.map(rate)));
  const worst = top(Math.max(...buckets.map(bucket => bucket.errorPercent)));
  const slowest = top(Math.max(...buckets.map(bucket => bucket.p99 ?? 0)));
  const legend = el(
    "span",
    { class: "legend" },
    ["p50", "p95", "p99"].map(key =>
      el(
        "span",
        {},
        svg("svg", { viewBox: "0 0 24 6", "aria-hidden": "true" }, svg("path", { class: `line ${key}`, d: "M0 3H24" })),
        key,
      ),
    ),
  );
  return el(
    "div",
    { class: "charts" },
    bars(
      "Rate",
      `${count(whole.count, "invocation")}, shown per minute`,
      buckets,
      rate,
      busiest,
      `${number(busiest)}/min`,
      "bar",
    ),
    bars(
      "Errors",
      `${number(whole.errors)} failed, ${percent(whole.errorPercent)}`,
      buckets,
      bucket => bucket.errorPercent,
      worst,
      percent(worst),
      "bar bad",
    ),
    framed(
      "Duration",
      whole.count
        ? `p50 ${duration(whole.p50)}, p95 ${duration(whole.p95)}, p99 ${duration(whole.p99)}`
        : "nothing ran",
      duration(slowest),
      drawn(
        buckets,
        ["p99", "p95", "p50"].map(key => line(buckets, key, slowest)),
      ),
      buckets,
      legend,
    ),
  );
}

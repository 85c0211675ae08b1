// The three charts over time, drawn by uPlot.
/* global uPlot */

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [1, 5]];
const STEPS = 4; // colours to each side of the usual
const DOT = 2.4; // radius of a dot, pixels

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
const logit = (p) => Math.log(p / (1 - p));
const clip = (p) => Math.min(Math.max(p, 0.001), 0.999);

export const dashOf = (horizon) => DASHES[horizon % DASHES.length];
export const colourOf = (horizon) => css(`--h${horizon % 5}`);

// How far a probability lies from the usual one, -1 to 1, on the scale of log odds.
export function tilt(p, usual) {
  return Math.max(-1, Math.min(1, (logit(clip(p)) - logit(clip(usual))) / 1.4));
}

function mix(from, to, share) {
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const [a, b] = [channels(from), channels(to)];
  return `rgb(${a.map((x, i) => Math.round(x + (b[i] - x) * share)).join(",")})`;
}

function ramp() {
  const [less, usual, more] = [css("--less"), css("--usual"), css("--more")];
  return Array.from({ length: 2 * STEPS + 1 }, (_, i) => {
    const share = (i - STEPS) / STEPS;
    return mix(usual, share < 0 ? less : more, Math.abs(share));
  });
}

function axes(format, size = axisSize) {
  const text = css("--soft");
  const common = { stroke: text, font: "11px system-ui, sans-serif", ticks: { show: false } };
  return [
    { ...common, grid: { show: false }, space: (u, i, min, max, width) => (width < 700 ? 52 : 90), size: 26, values: clockValues },
    { ...common, side: 1, grid: { stroke: css("--grid"), width: 1 }, size, gap: 6, space: 34, values: format },
  ];
}

function axisSize(u, values) {
  const longest = (values ?? []).reduce((most, value) => Math.max(most, value.length), 0);
  return 14 + 6.3 * longest;
}

function clockValues(u, splits, axis, space, step) {
  return splits.map((seconds) => {
    if (u.valToPos(seconds, "x") < 24) return ""; // would be cut
    const when = utc(seconds);
    const two = (n) => String(n).padStart(2, "0");
    const hm = `${two(when.getHours())}:${two(when.getMinutes())}`;
    if (step >= 86400) return `${when.getDate()} ${when.toLocaleString("en", { month: "short" })}`;
    return step < 60 ? `${hm}:${two(when.getSeconds())}` : hm;
  });
}

function decimals(u, values, axis, space, step) {
  let digits = 0;
  while (digits < 8 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return values.map((value) =>
    value === null ? "" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
}

// Gaps are shaded, resets are dashed lines: under the lines of the chart.
function drawEvents(u, events) {
  const { ctx, bbox } = u;
  const [left, right] = [u.scales.x.min, u.scales.x.max];
  ctx.save();
  for (const event of events) {
    if (event.until < left || event.since > right) continue;
    const from = u.valToPos(Math.max(event.since, left), "x", true);
    const to = u.valToPos(Math.min(event.until, right), "x", true);
    if (event.kind === "gap") {
      ctx.fillStyle = css("--gap");
      ctx.fillRect(from, bbox.top, Math.max(to - from, 2 * uPlot.pxRatio), bbox.height);
    } else {
      ctx.strokeStyle = css("--faint");
      ctx.lineWidth = uPlot.pxRatio;
      ctx.setLineDash([4 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
      ctx.beginPath();
      ctx.moveTo(from, bbox.top);
      ctx.lineTo(from, bbox.top + bbox.height);
      ctx.stroke();
    }
  }
  ctx.restore();
}

function drawLine(u, y, dash) {
  if (y === null || y < u.scales.y.min || y > u.scales.y.max) return;
  const { ctx, bbox } = u;
  const at = u.valToPos(y, "y", true);
  ctx.save();
  ctx.strokeStyle = css("--faint");
  ctx.lineWidth = uPlot.pxRatio;
  ctx.setLineDash(dash.map((x) => x * uPlot.pxRatio));
  ctx.beginPath();
  ctx.moveTo(bbox.left, at);
  ctx.lineTo(bbox.left + bbox.width, at);
  ctx.stroke();
  ctx.restore();
}

// One dot each few pixels, in the colour of what was said there; hollow where a rise was less likely,
// so that it can be told without colours.
function drawDots(u, usual) {
  const [times, prices, , , ps] = u.data;
  const ratio = uPlot.pxRatio;
  const paths = Array.from({ length: 2 * STEPS + 1 }, () => new Path2D());
  for (let i = times.length - 1, right = Infinity; i >= 0; i--) {
    if (prices[i] === null || ps[i] === null) continue;
    const x = u.valToPos(times[i], "x", true);
    if (right - x < 6.5 * ratio) continue;
    right = x;
    const y = u.valToPos(prices[i], "y", true);
    const path = paths[Math.round(tilt(ps[i], usual) * STEPS) + STEPS];
    path.moveTo(x + DOT * ratio, y);
    path.arc(x, y, DOT * ratio, 0, 2 * Math.PI);
  }
  const { ctx } = u;
  ctx.save();
  ctx.lineWidth = 1.6 * ratio;
  ramp().forEach((colour, i) => {
    ctx.strokeStyle = colour;
    ctx.fillStyle = i < STEPS ? css("--card") : colour;
    ctx.fill(paths[i]);
    ctx.stroke(paths[i]);
  });
  ctx.restore();
}

class Chart {
  constructor(place, options, draw) {
    this.place = place;
    this.make = () => {
      this.plot?.destroy();
      const built = options();
      this.plot = new uPlot({ ...built, ...this.size(), legend: { show: false } }, built.data, place);
    };
    this.draw = draw;
    this.make();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(place);
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 50), height: this.place.clientHeight };
  }

  show(columns, range) {
    this.plot.batch(() => {
      this.plot.setData(columns, false);
      this.plot.setScale("x", range);
    });
  }
}

const padded = (share, least) => (u, min, max) => {
  if (min === null) return [0, 1];
  const pad = Math.max((max - min) * share, least(min));
  return [min - pad, max + pad];
};

const CURSOR = { y: false, drag: { x: false, y: false }, points: { show: false }, sync: { key: "time" } };

export function priceChart(place, shown, readout) {
  return new Chart(place, () => ({
    data: [[], [], [], [], []],
    padding: [8, 0, 0, 4],
    axes: axes(decimals, (u, values) => (shown.axisSize = axisSize(u, values))),
    scales: { x: { time: true }, y: { range: padded(0.08, (min) => Math.abs(min) * 2e-6) } },
    cursor: CURSOR,
    bands: [{ series: [3, 2], fill: css("--ribbon") }],
    series: [
      {},
      { stroke: css("--usual"), width: 1.4, points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      { show: false, scale: "p" },
    ],
    hooks: {
      drawClear: [(u) => drawEvents(u, shown.events)],
      draw: [(u) => drawDots(u, shown.usual)],
      setCursor: [(u) => readout(u.data, u.cursor.idx)],
    },
  }));
}

export function chancesChart(place, shown, readout) {
  return new Chart(place, () => ({
    data: [[], ...shown.horizons.map(() => [])],
    padding: [8, 0, 0, 4],
    axes: axes((u, values) => values.map((value) => `${Math.round(100 * value)} %`), () => shown.axisSize ?? 60),
    scales: { x: { time: true }, y: { range: (u, min, max) => (min === null ? [0, 1] : [Math.max(0, min - 0.04), Math.min(1, max + 0.04)]) } },
    cursor: CURSOR,
    series: [{}, ...shown.horizons.map((name, i) => ({
      stroke: colourOf(i),
      width: i === shown.chosen ? 1.7 : 1,
      alpha: i === shown.chosen ? 1 : 0.5,
      dash: dashOf(i),
      points: { show: false },
    }))],
    hooks: {
      drawClear: [(u) => drawEvents(u, shown.events)],
      draw: [(u) => drawLine(u, shown.usual, [1, 3])],
      setCursor: [(u) => readout(u.data, u.cursor.idx)],
    },
  }));
}

// A single point makes no line.
const alone = (u) => u.data[0].length === 1;

export function skillChart(place, shown) {
  return new Chart(place, () => ({
    data: [[], [], [], []],
    padding: [8, 0, 0, 4],
    axes: axes(decimals),
    scales: { x: { time: true }, y: { range: padded(0.12, () => 0.001) } },
    cursor: { show: false },
    bands: [{ series: [3, 2], fill: css("--band") }],
    series: [
      {},
      { stroke: css("--ink"), width: 1.8, points: { show: alone, size: 7, fill: css("--ink") } },
      { stroke: css("--accent"), width: 1, alpha: 0.5, points: { show: alone, size: 5 } },
      { stroke: css("--accent"), width: 1, alpha: 0.5, points: { show: alone, size: 5 } },
    ],
    hooks: { drawClear: [(u) => drawLine(u, 0, [1, 3])] },
  }));
}

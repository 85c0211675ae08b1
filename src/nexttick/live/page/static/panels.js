// The panels below the charts: latency, feed, drift, warnings, gaps and resets.

import { $, element, fill, fillSvg } from "./parts.js";
import { clock, microseconds, spanText } from "./words.js";

const DRIFT_SHOWN = 8;
const FEED = {
  trades: "trades", backfilled: "backfilled", gaps: "gaps", resets: "resets", reconnects: "reconnects",
  silences: "silences", duplicates: "duplicates", reordered: "reordered", late: "too late",
  corrections: "corrections", unknown: "unknown", malformed: "malformed",
};
let allDrift = false;

export function showLatency(state) {
  const { edges_us: edges, counts, p50_us: p50, p99_us: p99 } = state.latency;
  $("p50").textContent = p50 === null ? "–" : microseconds(p50);
  $("p99").textContent = p99 === null ? "–" : microseconds(p99);
  const used = counts.map((count, i) => (count ? i : -1)).filter((i) => i >= 0);
  // Whole decades, two at least, so that the axis stands still.
  const low = used.length ? Math.floor((used[0] - 1) / 5) * 5 : 0;
  const first = Math.max(0, low);
  const last = Math.min(edges.length, Math.max(first + 10, Math.ceil((used[used.length - 1] ?? 0) / 5) * 5));
  const most = Math.max(...counts, 1);
  const bars = counts.slice(first + 1, last + 1);
  if (first === 0) bars[0] += counts[0];
  fill($("latency"), bars.length, "i", (bar, i) => { bar.style.height = `${100 * bars[i] / most}%`; });
  const labels = edges.slice(first, last + 1).map((edge, i) => [edge, i]).filter(([, i]) => (first + i) % 5 === 0);
  fill($("latency-axis"), labels.length, "span", (label, i) => {
    label.textContent = microseconds(labels[i][0]);
    label.style.left = `${Math.min(96, Math.max(4, 100 * labels[i][1] / bars.length))}%`;
  });
  $("latency").setAttribute("aria-label", `Histogram of latencies: median ${$("p50").textContent}, 99th percentile ${$("p99").textContent}`);
}

export function showFeed(state) {
  const { feed, rates } = state;
  $("rate").textContent = state.rate >= 10 ? Math.round(state.rate).toLocaleString("en") : state.rate.toFixed(1);
  $("feed-state").textContent = `${feed.connected ? "connected" : "not connected"}, ${lastTick(state)}`;
  const most = Math.max(...rates, 1);
  const across = (i) => 600 - (600 * (rates.length - 1 - i)) / 59;
  const points = rates.map((rate, i) => `${across(i)},${56 - 52 * rate / most}`);
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  fillSvg($("spark"), ["area", ""], [path && `${path}L600,60L${across(0)},60Z`, path]);
  const counts = { ...feed, resets: state.resets };
  const rows = [["skew", `${Math.round(feed.skew_ms).toLocaleString("en")} ms`, false]];
  for (const [key, name] of Object.entries(FEED)) rows.push([name, counts[key].toLocaleString("en"), counts[key] === 0]);
  fill($("feed"), rows.length, "div", (row, i) => {
    if (!row.children.length) row.append(element("dt"), element("dd"));
    [row.children[0].textContent, row.children[1].textContent] = rows[i];
    row.className = rows[i][2] ? "zero" : "";
  });
}

function lastTick(state) {
  if (!state.ticks) return "no tick yet";
  return state.age_s < 1 ? "last tick just now" : `last tick ${spanText(state.age_s)} ago`;
}

export function showDrift(state) {
  const rows = Object.entries(state.drift)
    .map(([name, psi]) => [name, psi, (psi ?? 0) / state.drift_limits[name]])
    .sort((a, b) => b[2] - a[2]);
  const far = rows.filter(([, , share]) => share > 1).length;
  $("drift-note").textContent = rows.length
    ? `${rows.length} features: ${far || "none"} beyond any stretch of training (the dotted line)` : "Not measured yet.";
  const top = allDrift ? rows : rows.slice(0, DRIFT_SHOWN);
  const scale = Math.max(1.25, (rows[0]?.[2] ?? 0) * 1.05);
  fill($("drift"), top.length, "li", (row, i) => showFeature(row, top[i], scale));
  $("drift-more").hidden = rows.length <= DRIFT_SHOWN;
  $("drift-more").setAttribute("aria-expanded", String(allDrift));
  $("drift-more").textContent = allDrift ? "show the most drifted" : `show all ${rows.length}`;
  $("drift-more").onclick = () => { allDrift = !allDrift; showDrift(state); };
}

function showFeature(row, [name, psi, share], scale) {
  if (!row.children.length) {
    const bar = element("span", { className: "bar" });
    bar.append(element("i"), element("u"));
    const value = element("span", { className: "value" });
    value.append(element("b"), element("em"));
    row.append(element("span", { className: "name" }), bar, value);
  }
  const [label, bar, value] = row.children;
  const word = share > 1 ? "drifted" : "within";
  row.className = word;
  label.textContent = label.title = name;
  bar.children[0].style.width = `${100 * Math.max(share, 0) / scale}%`;
  bar.children[1].style.left = `${100 / scale}%`;
  value.children[0].textContent = psi === null ? "–" : psi.toFixed(3);
  value.children[1].textContent = word;
}

export function showWarnings(state) {
  const list = $("warnings");
  list.hidden = !state.warnings.length;
  fill(list, state.warnings.length, "li", (row, i) => {
    if (row.textContent !== state.warnings[i]) row.textContent = state.warnings[i];
  });
}

export function showEvents(happened) {
  const events = [...happened].reverse();
  $("events-none").hidden = events.length > 0;
  $("events").replaceChildren(...events.map((event) => {
    const lasted = event.kind === "gap" ? `${spanText(event.until - event.since)}: ` : "";
    const row = element("li");
    row.append(element("time", { textContent: clock(event.since) }), element("b", { textContent: event.kind }),
      element("span", { textContent: lasted + event.reason }));
    return row;
  }));
}

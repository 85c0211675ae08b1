// The page: hears updates by websocket, and shows them.

import { chancesChart, colourOf, dashOf, priceChart, skillChart, tilt } from "./charts.js";
import { Series } from "./series.js";

const STALE_MS = 3500; // the server speaks once a second at least
const FIRST_WAIT_MS = 400, LAST_WAIT_MS = 8000;
const NO_SUCH_MARKET = 4404;
const MINUTES_S = 300, HOURS_S = 6 * 3600, FEW_POINTS = 240, PIXELS_A_POINT = 2;
const DRIFT_MOVED = 0.1, DRIFT_FAR = 0.25, DRIFT_SHOWN = 8;
const FEED = {
  trades: "trades", backfilled: "backfilled", gaps: "gaps", resets: "resets", reconnects: "reconnects",
  silences: "silences", duplicates: "duplicates", reordered: "reordered", late: "too late",
  corrections: "corrections", unknown: "unknown", malformed: "malformed",
};

const $ = (id) => document.getElementById(id);
const shown = { horizons: [], chosen: 0, usual: 0.5, events: [], range: "fine" };
const series = { fine: new Series(6000), coarse: new Series(2400), skill: [] };
const charts = {};
let state = null;
let baseRates = [];
let allDrift = false;
let socket = null;
let failures = 0, heardAt = 0, retryAt = 0, retryTimer = 0, refused = false;

// --- hearing ---------------------------------------------------------------------------------

function connect() {
  clearTimeout(retryTimer);
  retryAt = 0;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const market = decodeURIComponent(location.hash.slice(1));
  const query = market ? `?market=${encodeURIComponent(market)}` : "";
  const opened = (socket = new WebSocket(`${scheme}://${location.host}/ws${query}`));
  opened.onmessage = (event) => opened === socket && hear(JSON.parse(event.data));
  opened.onclose = (event) => opened === socket && lose(event);
}

function lose(event) {
  if (event.code === NO_SUCH_MARKET) history.replaceState(null, "", location.pathname);
  failures += 1;
  const wait = Math.min(LAST_WAIT_MS, FIRST_WAIT_MS * 1.7 ** failures) * (0.7 + 0.6 * Math.random());
  retryAt = Date.now() + wait;
  retryTimer = setTimeout(connect, wait);
  if (failures === 3) askWhy();
  showStatus();
}

// A browser does not say why a websocket was refused; an ordinary request does.
async function askWhy() {
  const answer = await fetch("/healthz").catch(() => null);
  refused = answer !== null && [401, 403].includes(answer.status);
  showStatus();
}

function retryNow() {
  if (retryAt && document.visibilityState === "visible") connect();
}

function hear(message) {
  failures = 0;
  refused = false;
  heardAt = Date.now();
  if (message.markets) return showMarkets(message);
  if (message.whole) begin(message);
  series.fine.take(message.fine, message.whole);
  series.coarse.take(message.coarse, message.whole);
  message.skill.forEach((update, i) => series.skill[i].take(update, message.whole));
  if (message.events) shown.events = message.events;
  state = message.state;
  if (document.visibilityState === "visible") show(Boolean(message.events));
}

function begin(message) {
  const same = shown.market === message.market && String(shown.horizons) === String(message.horizons);
  Object.assign(shown, { market: message.market, horizons: message.horizons });
  baseRates = message.base_rates;
  series.skill = message.horizons.map(() => new Series(4400));
  if (!same) choose(0);
}

// --- showing ---------------------------------------------------------------------------------

function showMarkets({ markets, version }) {
  $("version").textContent = `nexttick ${version}`;
  const select = $("market");
  if (String([...select.options].map((o) => o.value)) !== String(markets)) {
    select.replaceChildren(...markets.map((name) => new Option(name, name)));
  }
  const asked = decodeURIComponent(location.hash.slice(1));
  select.value = markets.includes(asked) ? asked : markets[0];
}

function choose(horizon) {
  shown.chosen = horizon;
  shown.usual = baseRates[horizon];
  buildChances();
  buildCharts();
  if (state) show(true);
}

function buildCharts() {
  if (!charts.price) {
    charts.price = priceChart($("price-chart"), shown, readPrice);
    charts.skill = skillChart($("skill-chart"), shown);
    charts.chances = chancesChart($("p-chart"), shown, readChances);
  } else Object.values(charts).forEach((chart) => chart.make());
}

function show(events) {
  if (!charts.price) return;
  showNow();
  showCharts();
  showSkill();
  showLatency();
  showFeed();
  showDrift();
  showWarnings();
  if (events) showEvents();
  showStatus();
}

function showNow() {
  const price = state.price;
  $("price").textContent = price === null ? "–" : priceText(price);
  document.title = price === null ? "nexttick" : `${priceText(price)} ${shown.market} · nexttick`;
  $("clock").textContent = state.time === null ? "" : `${clock(state.time)} UTC`;
  $("price-note").textContent = price === null ? "waiting for the first tick" : moved();
  state.p.forEach(showChance);
}

function moved() {
  const first = series.fine.from(MINUTES_S, FEW_POINTS);
  const before = series.fine.value[first];
  const bps = 1e4 * (state.price / before - 1);
  const span = spanText(state.time - series.fine.time[first]);
  return `${signed(bps, 1)} bps in ${span}`;
}

function buildChances() {
  $("chances").replaceChildren(...shown.horizons.map((name, i) => {
    const button = element("button", { type: "button", className: "chance" });
    button.setAttribute("aria-pressed", String(i === shown.chosen));
    button.append(
      element("span", { className: "name", textContent: name }), swatch(i),
      element("span", { className: "p", textContent: "–" }), element("span", { className: "word" }), meter(i),
    );
    button.onclick = () => { choose(i); $("chances").children[i].focus(); };
    return button;
  }));
}

function meter(i) {
  const bar = element("span", { className: "meter" });
  const usual = element("u");
  usual.style.left = `${100 * baseRates[i]}%`;
  bar.append(element("i"), usual);
  return bar;
}

function swatch(i) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  svg.setAttribute("viewBox", "0 0 32 8");
  const attributes = { x1: 0, x2: 32, y1: 4, y2: 4, stroke: colourOf(i), "stroke-width": 2.2, "stroke-dasharray": dashOf(i).join(" ") };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

function showChance(p, i) {
  const button = $("chances").children[i];
  const usual = baseRates[i];
  const known = p !== null;
  const lean = known ? tilt(p, usual) : 0;
  button.querySelector(".p").textContent = known ? percent(p) : "–";
  const word = lean > 0.12 ? "▲ above" : lean < -0.12 ? "▼ below" : "≈";
  button.querySelector(".word").textContent = known ? `${word} usual ${percent(usual, 0)}` : "gathering context";
  const bar = button.querySelector(".meter i");
  bar.style.left = `${100 * Math.min(known ? p : usual, usual)}%`;
  bar.style.width = `${known ? 100 * Math.abs(p - usual) : 0}%`;
  bar.style.background = `var(${lean < 0 ? "--less" : "--more"})`;
}

function showCharts() {
  const drawn = series[shown.range];
  if (!drawn.length) return clearCharts();
  const first = shown.range === "fine" ? drawn.from(MINUTES_S, FEW_POINTS) : drawn.from(HOURS_S, FEW_POINTS);
  const end = drawn.time[drawn.length - 1];
  const start = Math.min(drawn.time[first], end - 1);
  const range = { min: start, max: end + (end - start) * 0.01 };
  const step = (PIXELS_A_POINT * (end - start)) / charts.price.place.clientWidth;
  charts.price.show(drawn.columns(first, ["time", "value", "low", "high", shown.chosen], step), range);
  charts.chances.show(drawn.columns(first, ["time", ...shown.horizons.keys()], step), range);
  $("price-chart").setAttribute("aria-label", `Price over ${spanText(end - start)}, coloured by ${shown.horizons[shown.chosen]}`);
  if (charts.price.plot.cursor.idx == null) {
    $("price-readout").textContent = `last ${spanText(end - start)}, coloured by ${shown.horizons[shown.chosen]}`;
    $("p-readout").textContent = `usual ${percent(shown.usual, 0)}, dotted`;
  }
}

function clearCharts() {
  const now = Date.now() / 1000;
  const range = { min: now - MINUTES_S, max: now };
  charts.price.show([[], [], [], [], []], range);
  charts.chances.show([[], ...shown.horizons.map(() => [])], range);
  $("price-readout").textContent = shown.range === "fine" ? "no tick yet" : "not long enough yet";
}

function readPrice([times, prices, , , ps], i) {
  if (i == null || prices[i] == null) return;
  const said = ps[i] == null ? "nothing said" : `${shown.horizons[shown.chosen]} ${percent(ps[i])}`;
  $("price-readout").textContent = `${clock(times[i])}  ${priceText(prices[i])}  ${said}`;
}

function readChances(data, i) {
  if (i == null || data[1][i] == null) return;
  const said = shown.horizons.map((name, h) => `${name} ${data[h + 1][i] == null ? "–" : percent(data[h + 1][i])}`);
  $("p-readout").textContent = said.join("  ");
}

function showSkill() {
  const horizon = shown.horizons[shown.chosen];
  const told = state.skill[horizon];
  $("skill-horizon").textContent = horizon;
  $("skill-verdict").hidden = !told;
  if (!told) {
    $("bits").textContent = "–";
    $("skill-note").textContent = "No answer is known yet.";
  } else {
    $("bits").textContent = signed(told.bits, 4);
    const auc = told.auc === null ? "" : `, AUC ${told.auc.toFixed(3)}`;
    $("skill-note").textContent = `log loss ${told.log_loss.toFixed(4)}${auc}, ${told.events.toLocaleString("en")} events; the test promised ${told.low.toFixed(4)} to ${told.high.toFixed(4)}`;
    const where = told.bits < told.low ? "below its band" : told.bits > told.high ? "above its band" : "within its band";
    $("skill-verdict").textContent = where;
    $("skill-verdict").className = told.bits < told.low ? "badge bad" : "badge";
  }
  const drawn = series.skill[shown.chosen];
  const ends = drawn.length ? { min: Math.min(drawn.time[0], drawn.time[drawn.length - 1] - 1), max: drawn.time[drawn.length - 1] } : { min: 0, max: 1 };
  charts.skill.show(drawn.columns(0, ["time", "value", "low", "high"]), ends);
}

function showLatency() {
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

function showFeed() {
  const { feed, rates } = state;
  $("rate").textContent = state.rate >= 10 ? Math.round(state.rate).toLocaleString("en") : state.rate.toFixed(1);
  $("feed-state").textContent = `${feed.connected ? "connected" : "not connected"}, ${lastTick()}`;
  const most = Math.max(...rates, 1);
  const points = rates.map((rate, i) => `${600 - 10 * (rates.length - 1 - i)},${56 - 52 * rate / most}`);
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  fillSvg($("spark"), ["area", ""], [path && `${path}L600,60L${600 - 10 * (rates.length - 1)},60Z`, path]);
  const counts = { ...feed, resets: state.resets };
  const rows = [["skew", `${Math.round(feed.skew_ms).toLocaleString("en")} ms`, false]];
  for (const [key, name] of Object.entries(FEED)) rows.push([name, counts[key].toLocaleString("en"), counts[key] === 0]);
  fill($("feed"), rows.length, "div", (row, i) => {
    if (!row.children.length) row.append(element("dt"), element("dd"));
    [row.children[0].textContent, row.children[1].textContent] = rows[i];
    row.className = rows[i][2] ? "zero" : "";
  });
}

function lastTick() {
  if (!state.ticks) return "no tick yet";
  return state.age_s < 1 ? "last tick just now" : `last tick ${spanText(state.age_s)} ago`;
}

function showDrift() {
  const rows = Object.entries(state.drift).sort((a, b) => b[1] - a[1]);
  const far = rows.filter(([, psi]) => psi >= DRIFT_FAR).length;
  const moved = rows.filter(([, psi]) => psi >= DRIFT_MOVED).length - far;
  $("drift-note").textContent = rows.length
    ? `${rows.length} features: ${far} drifted (0.25 or more), ${moved} moved (0.1 or more)` : "Not measured yet.";
  const top = allDrift ? rows : rows.slice(0, DRIFT_SHOWN);
  const scale = Math.max(0.32, (rows[0]?.[1] ?? 0) * 1.05);
  fill($("drift"), top.length, "li", (row, i) => showFeature(row, top[i], scale));
  $("drift-more").hidden = rows.length <= DRIFT_SHOWN;
  $("drift-more").setAttribute("aria-expanded", String(allDrift));
  $("drift-more").textContent = allDrift ? "show the most drifted" : `show all ${rows.length}`;
}

function showFeature(row, [name, psi], scale) {
  if (!row.children.length) {
    const bar = element("span", { className: "bar" });
    bar.append(element("i"), element("u"), element("u"));
    const value = element("span", { className: "value" });
    value.append(element("b"), element("em"));
    row.append(element("span", { className: "name" }), bar, value);
  }
  const [label, bar, value] = row.children;
  const word = psi >= DRIFT_FAR ? "drifted" : psi >= DRIFT_MOVED ? "moved" : "stable";
  row.className = word;
  label.textContent = label.title = name;
  bar.children[0].style.width = `${100 * Math.max(psi, 0) / scale}%`;
  bar.children[1].style.left = `${100 * DRIFT_MOVED / scale}%`;
  bar.children[2].style.left = `${100 * DRIFT_FAR / scale}%`;
  value.children[0].textContent = psi === null ? "–" : psi.toFixed(3);
  value.children[1].textContent = word;
}

function showWarnings() {
  const list = $("warnings");
  list.hidden = !state.warnings.length;
  fill(list, state.warnings.length, "li", (row, i) => {
    if (row.textContent !== state.warnings[i]) row.textContent = state.warnings[i];
  });
}

function showEvents() {
  const events = [...shown.events].reverse();
  $("events-none").hidden = events.length > 0;
  $("events").replaceChildren(...events.map((event) => {
    const lasted = event.kind === "gap" ? `${spanText(event.until - event.since)}: ` : "";
    const row = element("li");
    row.append(element("time", { textContent: clock(event.since) }), element("b", { textContent: event.kind }),
      element("span", { textContent: lasted + event.reason }));
    return row;
  }));
}

function showStatus() {
  const [kind, text] = status();
  const place = $("status");
  if (place.textContent !== text) place.textContent = text;
  place.dataset.kind = kind;
  $("main").classList.toggle("stale", kind !== "good" && state !== null && text.startsWith("page"));
}

function status() {
  const since = heardAt ? `, as of ${spanText((Date.now() - heardAt) / 1000)} ago` : "";
  if (refused) return ["bad", "page refused: open it once more with ?token="];
  if (retryAt) return ["bad", `page cut off${since}; again in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`];
  if (!heardAt) return ["waiting", "connecting"];
  if (Date.now() - heardAt > STALE_MS) return ["bad", `page stale${since}`];
  if (!state) return ["waiting", "connecting"];
  if (!state.feed.connected) return ["bad", "feed not connected"];
  if (state.age_s > state.stale_after_s) return ["bad", `no tick for ${spanText(state.age_s)}`];
  return ["good", "live"];
}

// --- words and small parts -------------------------------------------------------------------

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

// Keeps the parts that are there, so that nothing flickers and no focus is lost.
function fill(place, count, name, set) {
  while (place.children.length < count) place.append(element(name));
  while (place.children.length > count) place.lastChild.remove();
  for (let i = 0; i < count; i++) set(place.children[i], i);
}

function fillSvg(svg, classes, paths) {
  while (svg.children.length < paths.length) {
    svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  }
  paths.forEach((path, i) => {
    svg.children[i].setAttribute("class", classes[i]);
    svg.children[i].setAttribute("d", path);
  });
}

function priceText(price) {
  const latest = series.fine.value.slice(-40);
  const digits = Math.max(...latest.map((x) => (String(+x.toFixed(8)).split(".")[1] ?? "").length), 0);
  return price.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);
const percent = (p, digits = 1) => `${(100 * p).toFixed(digits)} %`;
const signed = (x, digits) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;

function microseconds(us) {
  const round = (x) => (x >= 100 ? Math.round(x) : Number(x.toPrecision(2)));
  return us < 1000 ? `${round(us)} µs` : us < 1e6 ? `${round(us / 1e3)} ms` : `${round(us / 1e6)} s`;
}

function spanText(seconds) {
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// --- beginning -------------------------------------------------------------------------------

function setRange(range) {
  shown.range = range;
  for (const button of document.querySelectorAll("[data-range]")) {
    button.setAttribute("aria-pressed", String(button.dataset.range === range));
  }
  if (state) showCharts();
}

function forgetToken() {
  const url = new URL(location.href);
  if (!url.searchParams.has("token")) return;
  url.searchParams.delete("token");
  history.replaceState(null, "", url);
}

function start() {
  forgetToken();
  $("market").onchange = (event) => {
    history.replaceState(null, "", `#${encodeURIComponent(event.target.value)}`);
    const old = socket;
    state = null;
    connect();
    old.close();
  };
  for (const button of document.querySelectorAll("[data-range]")) button.onclick = () => setRange(button.dataset.range);
  $("drift-more").onclick = () => { allDrift = !allDrift; showDrift(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown.horizons.length && choose(shown.chosen));
  document.addEventListener("visibilitychange", () => { retryNow(); if (state && document.visibilityState === "visible") show(true); });
  addEventListener("online", retryNow);
  setInterval(showStatus, 500);
  connect();
}

start();

// The page: hears updates by websocket, and shows them.

import { chancesChart, colourOf, dashOf, priceChart, skillChart, tilt } from "./charts.js";
import { showDrift, showEvents, showFeed, showLatency, showWarnings } from "./panels.js";
import { $, element } from "./parts.js";
import { Series } from "./series.js";
import { clock, fixed, percent, signed, spanText } from "./words.js";

const STALE_MS = 3500; // the server speaks once a second at least
const FIRST_WAIT_MS = 400, LAST_WAIT_MS = 8000;
const NO_SUCH_MARKET = 4404;
const MINUTES_S = 300, HOURS_S = 6 * 3600, FEW_POINTS = 240, PIXELS_A_POINT = 2;

const shown = { horizons: [], chosen: 0, usual: 0.5, events: [], range: "fine" };
const series = { fine: new Series(6000), coarse: new Series(2400), skill: [] };
const charts = {};
let state = null;
let baseRates = [];
let socket = null;
let failures = 0, heardAt = 0, retryAt = 0, retryTimer = 0, refused = false;

// --- hearing ---------------------------------------------------------------------------------

function connect() {
  clearTimeout(retryTimer);
  retryAt = 0;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const market = asked();
  const query = market ? `?market=${encodeURIComponent(market)}` : "";
  const opened = (socket = new WebSocket(`${scheme}://${location.host}/ws${query}`));
  opened.onmessage = (event) => opened === socket && hear(JSON.parse(event.data));
  opened.onclose = (event) => opened === socket && lose(event);
}

// The market named in the address, so that it can be kept as a bookmark.
function asked() {
  return new URLSearchParams(location.hash.slice(1)).get("market");
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
  select.value = markets.includes(asked()) ? asked() : markets[0];
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
  for (const showPanel of [showLatency, showFeed, showDrift, showWarnings]) showPanel(state);
  if (events) showEvents(shown.events);
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
  const skill = state.skill[horizon];
  const known = skill && skill.bits !== null;
  const promised = known && skill.low !== null && skill.high !== null;
  $("skill-horizon").textContent = horizon;
  $("bits").textContent = known ? signed(skill.bits, 4) : "–";
  $("skill-note").textContent = known ? skillText(skill, promised) : "No answer is known yet.";
  $("skill-verdict").hidden = !promised;
  if (promised) {
    const where = skill.bits < skill.low ? "below" : skill.bits > skill.high ? "above" : "within";
    $("skill-verdict").textContent = `${where} its band`;
    $("skill-verdict").className = where === "below" ? "badge bad" : "badge";
  }
  const drawn = series.skill[shown.chosen];
  const last = drawn.time[drawn.length - 1];
  const range = drawn.length ? { min: Math.min(drawn.time[0], last - 10), max: last } : { min: 0, max: 1 };
  charts.skill.show(drawn.columns(0, ["time", "value", "low", "high"]), range);
}

function skillText(skill, promised) {
  const auc = skill.auc === null ? "" : `, AUC ${skill.auc.toFixed(3)}`;
  const band = promised ? `; the test promised ${skill.low.toFixed(4)} to ${skill.high.toFixed(4)}` : "";
  return `log loss ${fixed(skill.log_loss, 4)}${auc}, ${skill.events.toLocaleString("en")} events${band}`;
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

function priceText(price) {
  const latest = series.fine.value.slice(-40);
  const digits = Math.max(...latest.map((x) => (String(+x.toFixed(8)).split(".")[1] ?? "").length), 0);
  return price.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
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
    history.replaceState(null, "", `#market=${encodeURIComponent(event.target.value)}`);
    const old = socket;
    state = null;
    connect();
    old.close();
  };
  for (const button of document.querySelectorAll("[data-range]")) button.onclick = () => setRange(button.dataset.range);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown.horizons.length && choose(shown.chosen));
  document.addEventListener("visibilitychange", () => { retryNow(); if (state && document.visibilityState === "visible") show(true); });
  addEventListener("online", retryNow);
  setInterval(showStatus, 500);
  connect();
}

start();

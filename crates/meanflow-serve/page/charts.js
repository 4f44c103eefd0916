// Charts drawn by hand: lines over steps, a map over (r, t), points of the plane.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

function ticks(low, high, isLog, wanted = 5) {
  if (isLog) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
      for (const factor of [1, 2, 5]) {
        const tick = factor * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) found.push(tick);
      }
    if (found.length < 3) return ticks(low, high, false, wanted);
    const every = Math.ceil(found.length / wanted);
    return found.filter((_, place) => place % every === 0);
  }
  const rough = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) found.push(tick);
  return found;
}

// The means of a window that grows with the number of points.
function smooth(points) {
  const reach = Math.floor(points.length / 80);
  if (reach < 1) return points;
  let sum = 0;
  const sums = [0, ...points.map(([, y]) => (sum += y))];
  return points.map(([x], place) => {
    const from = Math.max(0, place - reach), to = Math.min(points.length, place + reach + 1);
    return [x, (sums[to] - sums[from]) / (to - from)];
  });
}

// Most points that a line is drawn of: as many as there are pixels.
function thin(points, most = 700) {
  const every = Math.ceil(points.length / most);
  return every < 2 ? points : points.filter((_, place) => place % every === 0 || place === points.length - 1);
}

const HEIGHT = 230, LEFT = 52, RIGHT = 10, TOP = 10, BOTTOM = 24;

export class LineChart {
  constructor(title, { isLog = false, isWide = false } = {}) {
    this.isLog = isLog;
    this.svg = svg("svg", { role: "img" });
    this.under = document.createElement("div");
    this.under.className = "under";
    this.title = title;
    this.element = document.createElement("div");
    this.element.className = isWide ? "chart wide" : "chart";
    const heading = document.createElement("h3");
    heading.textContent = title;
    this.element.append(heading, this.svg, this.under);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
  }

  // Series: {name, color, points: [[x, y]], dash}.
  draw(series) {
    // One unit is one pixel, so that the text is as large in every chart.
    this.width = Math.max(240, this.svg.clientWidth || 560);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.series = series.map((one) => ({ ...one, points: one.points.filter(([, y]) => Number.isFinite(y) && (!this.isLog || y > 0)) })).filter(({ points }) => points.length);
    const all = this.series.flatMap(({ points }) => smooth(points));
    if (!all.length) {
      this.svg.replaceChildren(svg("text", { x: this.width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "nothing logged yet"));
      return;
    }
    const xs = all.map(([x]) => x), ys = all.map(([, y]) => y).sort((a, b) => a - b);
    // The first steps are far above all others: a fiftieth of the values may be outside.
    const low = ys[0], high = ys[Math.floor((ys.length - 1) * (this.isLog ? 1 : 0.99))];
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    const scale = (value) => (this.isLog ? Math.log10(value) : value);
    const [y0, y1] = this.isLog ? [low * 0.97, high * 1.03] : [Math.min(low, low - (high - low) * 0.04), high + (high - low) * 0.06 || high + 1];
    this.x = (x) => LEFT + ((x - x0) / (x1 - x0 || 1)) * (this.width - LEFT - RIGHT);
    this.y = (y) => TOP + (1 - (scale(y) - scale(y0)) / (scale(y1) - scale(y0) || 1)) * (HEIGHT - TOP - BOTTOM);
    const parts = [svg("title", {}, this.title)];
    for (const tick of ticks(y0, y1, this.isLog)) {
      parts.push(svg("line", { class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: this.y(tick), y2: this.y(tick) }));
      parts.push(svg("text", { x: LEFT - 6, y: this.y(tick) + 4, "text-anchor": "end" }, number(tick)));
    }
    for (const tick of ticks(x0, x1, false)) parts.push(svg("text", { x: this.x(tick), y: HEIGHT - 6, "text-anchor": "middle" }, number(tick)));
    const clip = (y) => Math.max(TOP, Math.min(HEIGHT - BOTTOM, this.y(y)));
    const path = (points) => points.map(([x, y], place) => `${place ? "L" : "M"}${this.x(x).toFixed(1)} ${clip(y).toFixed(1)}`).join("");
    for (const { points, color, dash } of this.series) {
      if (points.length > 160 && this.series.length < 4) parts.push(svg("path", { class: "line faint", d: path(thin(points)), stroke: color }));
      parts.push(svg("path", { class: "line", d: path(thin(smooth(points))), stroke: color, ...(dash ? { "stroke-dasharray": dash } : {}) }));
    }
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.svg.replaceChildren(...parts, this.cursor);
    this.point(null);
  }

  // What the lines are at a place; without one, at their ends.
  point(event) {
    if (!this.series?.length) return;
    const box = this.svg.getBoundingClientRect();
    const place = event && ((event.clientX - box.left) / box.width) * this.width;
    const texts = this.series.map(({ name, color, points }) => {
      const near = event ? points.reduce((best, one) => (Math.abs(this.x(one[0]) - place) < Math.abs(this.x(best[0]) - place) ? one : best)) : smooth(points).at(-1);
      if (event) {
        this.cursor.setAttribute("x1", this.x(near[0]));
        this.cursor.setAttribute("x2", this.x(near[0]));
      }
      const dot = document.createElement("i");
      dot.textContent = "● ";
      dot.style.color = color;
      const entry = document.createElement("span");
      entry.append(dot, `${name ? `${name} ` : ""}${number(near[1])}`);
      return { near, nodes: [entry, "   "] };
    });
    this.cursor.setAttribute("visibility", event ? "visible" : "hidden");
    const step = event ? [`step ${number(texts[0].near[0])}   `] : [];
    this.under.replaceChildren(...step, ...texts.flatMap(({ nodes }) => nodes));
  }
}

// From the ground to the accent.
export function shade(share) {
  return `color-mix(in oklab, var(--accent) ${(8 + 92 * share).toFixed(1)}%, var(--well))`;
}

// A map of values over t (rows, upwards) and r (columns); null above the diagonal.
export function heatMap(title, rows, label) {
  const element = document.createElement("div");
  element.className = "chart";
  const heading = document.createElement("h3");
  heading.textContent = title;
  const known = rows.flat().filter((value) => value !== null && Number.isFinite(value));
  const low = Math.min(...known), high = Math.max(...known);
  const count = rows.length, side = 232 / count;
  const map = svg("svg", { viewBox: "0 0 300 262", role: "img", class: "map" });
  map.append(svg("title", {}, title));
  const under = document.createElement("div");
  under.className = "under";
  const range = `from ${number(low)} to ${number(high)}`;
  under.textContent = range;
  rows.forEach((row, t) => row.forEach((value, r) => {
    if (value === null || !Number.isFinite(value)) return;
    const cell = svg("rect", { x: 34 + r * side, y: 6 + (count - 1 - t) * side, width: side - 1, height: side - 1, rx: 2 });
    cell.style.fill = shade((value - low) / (high - low || 1));
    cell.append(svg("title", {}, `${label(t, r)}: ${number(value)}`));
    cell.addEventListener("pointerenter", () => { under.textContent = `${label(t, r)}: ${number(value)}`; });
    cell.addEventListener("pointerleave", () => { under.textContent = range; });
    map.append(cell);
  }));
  map.append(svg("text", { x: 34 + 116, y: 257, "text-anchor": "middle" }, "r"), svg("text", { x: 22, y: 124, "text-anchor": "middle" }, "t"));
  for (const [text, share] of [["0", 0], ["1", 1]]) {
    map.append(svg("text", { x: 34 + share * 224, y: 257, "text-anchor": "middle" }, text));
    map.append(svg("text", { x: 22, y: 238 - share * 226, "text-anchor": "middle" }, text));
  }
  element.append(heading, map, under);
  return element;
}

// Points of the plane, between −2.25 and 2.25.
export function scatter(canvas, points) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const place = (value) => ((value + 2.25) / 4.5) * canvas.width;
  context.fillStyle = style.getPropertyValue("--well");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = style.getPropertyValue("--accent");
  context.globalAlpha = 0.55;
  for (const [x, y] of points) context.fillRect(place(x) - 1.5, canvas.height - place(y) - 1.5, 3, 3);
}

// The dashboard: runs while they train and afterwards, one by one or over each other.

import { get, picture } from "/server.js";
import { complain, content } from "/main.js";
import { LineChart, heatMap, number } from "/charts.js";
import { element } from "/studio.js";

const COLORS = ["#4458d6", "#d6662a", "#1f8a5b", "#a2429c", "#a68a12", "#2a8fb0", "#c23a4b", "#6d7580"];
const EVERY = 2000;
// A run that has logged nothing for so long is not training.
const QUIET = 90;

class Run {
  constructor(id, color) {
    this.id = id;
    this.color = color;
    this.records = [];
    this.next = 0;
  }

  // What is new; whether anything is.
  async update() {
    const path = `/api/runs/${encodeURIComponent(this.id)}`;
    this.about = await get(path);
    let isNew = false;
    for (;;) {
      const { records, next, bytes } = await get(`${path}/metrics?from=${this.next}`);
      // A run that was gone back to an earlier step has a shorter file.
      if (next < this.next) this.records = [];
      isNew ||= records.length > 0;
      this.records.push(...records);
      const isDone = next >= bytes || next === this.next;
      this.next = next;
      if (isDone) return isNew;
    }
  }

  get last() {
    return this.records.at(-1);
  }

  get isTraining() {
    return this.about.quiet_seconds !== null && this.about.quiet_seconds < QUIET && (this.last?.step ?? 0) < this.about.steps;
  }

  points(key) {
    return this.records.map((record) => [record.step, record[key]]);
  }
}

export class Dashboard {
  constructor(catalogue) {
    this.stage = document.getElementById("run-stage");
    this.runs = catalogue.runs.map(({ id }, place) => new Run(id, COLORS[place % COLORS.length]));
    this.chosen = new Set([this.runs[0].id]);
    this.list = document.getElementById("run-list");
    this.list.append(...this.runs.map((run) => this.entry(run)));
  }

  entry(run) {
    const box = element("input", { type: "checkbox", checked: this.chosen.has(run.id), onchange: () => {
      if (box.checked) this.chosen.add(run.id);
      else this.chosen.delete(run.id);
      this.build();
      this.update();
    } });
    const swatch = element("i");
    swatch.style.background = run.color;
    run.line = element("small");
    return element("label", { className: "run" }, box, swatch, run.id, run.line);
  }

  start() {
    if (this.timer) return;
    this.resized ??= new ResizeObserver(() => { this.fresh = true; });
    this.resized.observe(this.stage);
    this.build();
    this.update();
    this.timer = setInterval(() => this.update(), EVERY);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
  }

  get shown() {
    return this.runs.filter(({ id }) => this.chosen.has(id));
  }

  build() {
    this.charts = {
      v_loss: new LineChart("v_loss, ‖u − v‖² a sample", { isLog: true, isWide: true }),
      by_tr: new LineChart("v_loss by place in (r, t)", { isLog: true }),
      grad_norm: new LineChart("Norm of the gradient", { isLog: true }),
      lr: new LineChart("Learning rate"),
      samples_per_second: new LineChart("Samples a second"),
    };
    this.tiles = element("div", { className: "tiles" });
    this.bar = element("i");
    this.samples = element("div", { className: "chart history" });
    this.maps = element("div", { className: "charts" });
    this.facts = element("div", { className: "chart" });
    this.stage.replaceChildren(this.tiles, element("div", { className: "progress" }, this.bar), element("div", { className: "charts" }, ...Object.values(this.charts).map(({ element: made }) => made)), this.samples, this.maps, this.facts);
    this.history = null;
    this.fresh = true;
  }

  async update() {
    if (this.isBusy || document.hidden) return;
    this.isBusy = true;
    try {
      const changes = await Promise.all(this.shown.map((run) => run.update()));
      if (this.fresh || changes.some(Boolean)) this.draw();
      this.fresh = false;
      content();
    } catch (error) {
      complain(error);
    }
    this.isBusy = false;
  }

  draw() {
    const { shown } = this;
    for (const run of shown) run.line.textContent = run.last ? `step ${number(run.last.step)} of ${number(run.about.steps)}${run.isTraining ? " · training" : ""}` : "no steps yet";
    const name = (run) => (shown.length > 1 ? run.id : "");
    for (const [key, chart] of Object.entries(this.charts)) {
      if (key !== "by_tr") chart.draw(shown.map((run) => ({ name: name(run), color: run.color, points: run.points(key) })));
    }
    const run = shown[0];
    if (!run) return;
    this.drawTiles(run);
    this.drawParts(run);
    this.drawSamples(run);
    this.drawMaps(run);
    this.drawFacts(run);
  }

  drawTiles(run) {
    const { last, about } = run;
    const share = last ? last.step / about.steps : 0;
    this.bar.style.width = `${100 * Math.min(1, share)}%`;
    const recent = run.records.slice(-40);
    const rate = recent.length > 1 ? (recent.at(-1).step - recent[0].step) / (recent.at(-1).seconds - recent[0].seconds) : null;
    const left = rate && share < 1 ? duration((about.steps - last.step) / rate) : share >= 1 ? "done" : "–";
    const mean = recent.reduce((sum, { v_loss }) => sum + v_loss, 0) / recent.length;
    const tiles = [
      [last ? `${number(last.step)}` : "–", `of ${number(about.steps)} steps`],
      [left, run.isTraining ? "left" : share >= 1 ? "training" : "left, paused"],
      [number(mean), "v_loss, recent mean"],
      [rate ? number(rate) : "–", "steps a second"],
      [last ? number(last.samples_per_second) : "–", "samples a second"],
      [last ? duration(last.seconds) : "–", "of training"],
    ];
    this.tiles.replaceChildren(...tiles.map(([value, text]) => element("div", { className: "tile" }, element("b", {}, value), element("span", {}, text))));
  }

  // The curves of the diagonal and of the longest intervals, by quarters of both times.
  drawParts(run) {
    const parts = [["r, t < ¼", 0, 0], ["¼–½", 1, 1], ["½–¾", 2, 2], ["> ¾", 3, 3], ["r < ¼, t > ¾", 3, 0]];
    this.charts.by_tr.draw(parts.map(([name, t, r], place) => ({ name, color: COLORS[place], points: run.records.map((record) => [record.step, record.v_loss_by_tr?.[t]?.[r] ?? NaN]) })));
  }

  async drawSamples(run) {
    const steps = run.about.samples;
    if (!steps.length || this.history === `${run.id} ${steps.length}`) return;
    this.history = `${run.id} ${steps.length}`;
    const image = element("img", { alt: "Samples of the run" });
    const caption = element("output");
    const slider = element("input", { type: "range", min: 0, max: steps.length - 1, step: 1, value: steps.length - 1, "aria-label": "Step of the samples" });
    const show = async () => {
      const step = steps[Number(slider.value)];
      caption.textContent = `step ${number(step)}`;
      try {
        const made = await picture(`/api/runs/${encodeURIComponent(run.id)}/samples/${step}`);
        URL.revokeObjectURL(image.src);
        image.src = made;
        image.alt = `Samples after step ${step}`;
      } catch (error) {
        complain(error);
      }
    };
    slider.addEventListener("input", show);
    this.samples.replaceChildren(element("h3", {}, "Samples along the training"), element("label", {}, element("span", {}, `${steps.length} pictures`, caption), slider), image);
    await show();
  }

  drawMaps(run) {
    const quarters = ["0–¼", "¼–½", "½–¾", "¾–1"];
    const recent = run.records.slice(-Math.max(20, Math.floor(run.records.length / 10)));
    const mean = quarters.map((_, t) => quarters.map((_, r) => {
      const values = recent.map((record) => record.v_loss_by_tr?.[t]?.[r]).filter((value) => value !== null && value !== undefined);
      return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
    }));
    const maps = [];
    if (recent.length) maps.push(heatMap("v_loss over (r, t), recent steps", mean, (t, r) => `t ${quarters[t]}, r ${quarters[r]}`));
    const residuals = run.about.report?.residuals;
    if (residuals) {
      const label = (t, r) => `t = ${residuals.times[t]}, r = ${residuals.times[r]}`;
      // The report has r in rows and t in columns.
      const turned = (rows) => rows.map((_, t) => rows.map((row) => row[t]));
      maps.push(heatMap("Residual of the MeanFlow identity", turned(residuals.identity_residual), label));
      maps.push(heatMap("Residual of consistency: one jump against two", turned(residuals.consistency_residual), label));
    }
    this.maps.replaceChildren(...maps);
  }

  drawFacts(run) {
    if (this.factsOf === run.id && !this.fresh) return;
    this.factsOf = run.id;
    const { about } = run;
    const parts = [];
    const samplers = about.report?.samplers;
    if (samplers?.length) {
      const names = Object.keys(samplers[0].metrics);
      const cell = (value) => (value ? withError(value.mean, value.interval ? (value.interval[1] - value.interval[0]) / 2 : null) : "–");
      const head = element("tr", {}, element("th", { scope: "col" }, "Sampler"), ...names.map((name) => element("th", { scope: "col" }, name)));
      const rows = samplers.map(({ name, metrics }) => element("tr", {}, element("th", { scope: "row" }, name), ...names.map((key) => element("td", {}, cell(metrics[key])))));
      parts.push(element("h3", {}, "Evaluation"), element("div", { className: "scroll" }, element("table", { className: "values" }, element("thead", {}, head), element("tbody", {}, ...rows))));
    }
    const fold = (title, text) => text && parts.push(element("details", {}, element("summary", {}, title), element("pre", { tabIndex: 0 }, text)));
    fold("Recipe", about.recipe);
    fold("Recipe, resolved", about.resolved);
    fold("Starts: commands, machine, versions", about.starts && JSON.stringify(about.starts, null, 2));
    this.facts.replaceChildren(...parts);
  }
}

// As many digits as the error has two of.
function withError(mean, error) {
  if (!error) return number(mean);
  const digits = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(error))));
  return `${mean.toFixed(digits)} ± ${error.toFixed(digits)}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} d`;
}

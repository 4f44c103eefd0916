// The studio: a model, and ways to look at what it makes of noise.

import { isOvertaken, post } from "/server.js";
import { complain, content } from "/main.js";
import { scatter } from "/charts.js";

const COUNTS = [1, 4, 16, 36, 64];
const SAMPLERS = [
  { id: "1", key: "1", name: "1", steps: 1, method: "jump" },
  { id: "2", key: "2", name: "2", steps: 2, method: "jump" },
  { id: "4", key: "4", name: "4", steps: 4, method: "jump" },
  { id: "8", key: "8", name: "8", steps: 8, method: "jump" },
  { id: "ode", key: "o", name: "ODE", steps: 16, method: "heun", title: "Flow matching by the same network: Heun's method, 16 steps, 32 network evaluations" },
];
const POINTS = 2048;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function source(sample) {
  return `data:image/png;base64,${sample.png}`;
}

export function milliseconds(time) {
  return time < 10 ? `${time.toFixed(1)} ms` : time < 10000 ? `${time.toFixed(0)} ms` : `${(time / 1000).toFixed(1)} s`;
}

function radios(container, name, entries, chosen, onchange) {
  container.replaceChildren(...entries.map(({ id, name: text, title }) => {
    const input = element("input", { type: "radio", name, value: id, checked: id === chosen, onchange: () => onchange(id) });
    return element("label", title ? { title } : {}, input, element("span", {}, text));
  }));
}

function choose(container, id) {
  const input = [...container.querySelectorAll("input")].find((input) => input.value === id);
  if (input && !input.checked) input.click();
}

export class Studio {
  constructor(catalogue) {
    this.catalogue = catalogue;
    this.view = "grid";
    this.sampler = SAMPLERS[0];
    this.parts = Object.fromEntries(["model", "class-list", "classes", "seed", "dice", "count", "count-shown", "samplers", "views", "timing", "view", "facts", "detail", "detail-content"].map((id) => [id, document.getElementById(id)]));
    const { model, seed, dice, count, samplers } = this.parts;
    model.append(...catalogue.models.map(({ id }) => element("option", { value: id }, id)));
    model.addEventListener("change", () => this.useModel());
    seed.addEventListener("input", () => this.draw());
    dice.addEventListener("click", () => this.otherSeeds());
    count.addEventListener("input", () => { this.showCount(); this.draw(); });
    document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
    radios(samplers, "sampler", SAMPLERS, this.sampler.id, (id) => { this.sampler = SAMPLERS.find((sampler) => sampler.id === id); this.draw(); });
    this.showCount();
    this.useModel(false);
  }

  start() {
    if (!this.started) this.draw();
    this.started = true;
  }

  get model() {
    return this.catalogue.models.find(({ id }) => id === this.parts.model.value) ?? this.catalogue.models[0];
  }

  get seed() {
    return Math.max(0, Math.floor(Number(this.parts.seed.value)) || 0);
  }

  get count() {
    return COUNTS[Number(this.parts.count.value)];
  }

  get isPoints() {
    return this.model.samples === "points";
  }

  className(index) {
    return this.model.class_names?.[index] ?? String(index);
  }

  showCount() {
    this.parts["count-shown"].textContent = this.count;
  }

  otherSeeds() {
    this.parts.seed.value = Math.floor(Math.random() * 1e6);
    this.draw();
  }

  useModel(draws = true) {
    const { model } = this;
    const entries = [...Array(Math.min(model.classes, 1000)).keys()].map((index) => ({ id: String(index), name: this.className(index) }));
    this.class = model.classes ? "balanced" : "none";
    this.parts.classes.hidden = model.classes === 0;
    const all = [{ id: "balanced", name: "all" }, ...entries, { id: "none", name: "no class" }];
    radios(this.parts["class-list"], "class", all, this.class, (id) => { this.class = id; this.draw(); });
    const views = this.views();
    if (!views.some(({ id }) => id === this.view)) this.view = "grid";
    radios(this.parts.views, "view", views, this.view, (id) => { this.view = id; this.draw(); });
    const network = model.config.network;
    const kind = typeof network === "string" ? network : network.kind ?? network.type ?? Object.keys(network)[0];
    const facts = { Network: String(kind).toUpperCase(), Parameters: model.parameters.toLocaleString("en"), Sample: model.shape.join(" × "), Classes: model.classes || "none" };
    this.parts.facts.replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
    if (draws) this.draw();
  }

  views() {
    const views = [{ id: "grid", name: this.isPoints ? "Density" : "Samples" }, { id: "compare", name: "Steps side by side" }];
    if (!this.isPoints) {
      views.push({ id: "between", name: "Between two seeds" }, { id: "path", name: "From noise to data" });
      if (this.model.picture && this.model.samples === "pictures") views.push({ id: "vary", name: "Variations" }, { id: "inpaint", name: "Completion" });
    }
    return views;
  }

  key(key, target) {
    const sampler = SAMPLERS.find((sampler) => sampler.key === key);
    if (sampler) choose(this.parts.samplers, sampler.id);
    else if (key === "r" || (key === " " && !target.matches?.("button, input, a, summary"))) this.otherSeeds();
    else if (key === "n" || key === "p") this.nextClass(key === "n" ? 1 : -1);
    else if (key === "v") {
      const views = this.views().map(({ id }) => id);
      choose(this.parts.views, views[(views.indexOf(this.view) + 1) % views.length]);
    } else return false;
    return true;
  }

  nextClass(step) {
    const inputs = [...this.parts["class-list"].querySelectorAll("input")];
    const place = inputs.findIndex((input) => input.checked);
    if (inputs.length) choose(this.parts["class-list"], inputs[(place + step + inputs.length) % inputs.length].value);
  }

  asked(more = {}) {
    const named = this.class === "none" ? null : this.class === "balanced" ? "balanced" : Number(this.class);
    return { model: this.model.id, class: named, steps: this.sampler.steps, method: this.sampler.method, ...more };
  }

  // One class for views that follow one sample.
  oneClass() {
    if (!this.model.classes || this.class === "none") return null;
    return this.class === "balanced" ? this.seed % this.model.classes : Number(this.class);
  }

  async draw() {
    const views = { grid: () => this.drawGrid(), compare: () => this.drawComparison(), between: () => this.drawBetween(), path: () => this.drawPath(), vary: () => this.drawVariations(), inpaint: () => this.drawCompletions() };
    try {
      await views[this.view]();
      content();
    } catch (error) {
      if (!isOvertaken(error)) complain(error);
    }
  }

  tell(answer, samples = answer.samples.length) {
    const { nfe, milliseconds: time, shared_by: shared, waited_milliseconds: waited, roundTrip } = answer;
    const each = samples > 1 && !this.isPoints ? `, ${milliseconds(time / shared)} each` : "";
    const others = shared > samples ? ` together with ${shared - samples} of others` : "";
    this.parts.timing.replaceChildren(
      element("b", {}, `${nfe} evaluation${nfe === 1 ? "" : "s"} a ${this.isPoints ? "point" : "picture"}`),
      ` · ${milliseconds(time)} for ${samples}${others}${each} · round trip ${milliseconds(roundTrip)}${waited > 5 ? `, of which ${milliseconds(waited)} in the queue` : ""}`,
    );
  }

  columns(count) {
    return Math.ceil(Math.sqrt(count));
  }

  image(sample, isFresh = true) {
    const [, height, width] = this.model.picture;
    const name = sample.class_name ?? (sample.class === undefined ? "" : String(sample.class));
    const alt = [name && `class ${name}`, sample.seed !== undefined && `seed ${sample.seed}`].filter(Boolean).join(", ") || "a sample";
    const image = element("img", { src: source(sample), alt, width, height });
    if (height < 128) image.classList.add("pixels");
    if (isFresh) image.classList.add("fresh");
    return image;
  }

  button(sample, answer) {
    const image = this.image(sample);
    return element("button", { type: "button", className: "sample", "aria-label": `${image.alt}: larger`, title: image.alt, onclick: () => this.showDetail(sample, answer) }, image);
  }

  async drawGrid() {
    const count = this.isPoints ? POINTS : this.count;
    const seeds = [...Array(count).keys()].map((place) => this.seed + place);
    const answer = await post("/api/sample", this.asked({ seeds }), "view");
    this.tell(answer);
    if (this.isPoints) {
      this.parts.view.replaceChildren(this.density(answer.samples, "large"));
      return;
    }
    const grid = element("div", { className: "grid" });
    grid.style.setProperty("--columns", this.columns(count));
    grid.style.setProperty("--widest", { 1: "22rem", 4: "14rem", 16: "8.8rem", 36: "6rem", 64: "4.6rem" }[count]);
    grid.append(...answer.samples.map((sample) => this.button(sample, answer)));
    this.parts.view.replaceChildren(grid);
  }

  density(samples, className) {
    const canvas = element("canvas", { width: 512, height: 512, role: "img", "aria-label": `${samples.length} points of the plane` });
    scatter(canvas, samples.map(({ values }) => values));
    return element("div", { className }, canvas);
  }

  async drawComparison() {
    const rows = this.isPoints ? POINTS : Math.min(this.count, 8);
    const seeds = [...Array(rows).keys()].map((place) => this.seed + place);
    const ask = (sampler) => post("/api/sample", this.asked({ seeds, steps: sampler.steps, method: sampler.method }), `compare-${sampler.id}`);
    // One after the other: the times are then those of each alone.
    const answers = [];
    for (const sampler of SAMPLERS) answers.push(await ask(sampler));
    this.parts.timing.textContent = `The same ${rows} ${this.isPoints ? "noises" : "seeds"} by each way`;
    const head = SAMPLERS.map((sampler, place) => {
      const { nfe, milliseconds: time } = answers[place];
      return element("th", { scope: "col" }, sampler.id === "ode" ? "ODE" : `${nfe} step${nfe === 1 ? "" : "s"}`, element("small", {}, `${nfe} evaluation${nfe === 1 ? "" : "s"}`), element("small", {}, milliseconds(time)));
    });
    const table = element("table", { className: "compare" }, element("thead", {}, element("tr", {}, element("td"), ...head)));
    const body = element("tbody");
    if (this.isPoints) body.append(element("tr", {}, element("th", { scope: "row" }, ""), ...answers.map(({ samples }) => element("td", {}, this.density(samples, "cell")))));
    else for (const [row, seed] of seeds.entries()) {
      const name = answers[0].samples[row].class_name ?? answers[0].samples[row].class ?? "";
      body.append(element("tr", {}, element("th", { scope: "row" }, name === "" ? "" : `${name} `, element("small", {}, `seed ${seed}`)), ...answers.map((answer) => element("td", {}, this.button(answer.samples[row], answer)))));
    }
    table.append(body);
    this.parts.view.replaceChildren(element("div", { className: "scroll" }, table));
  }

  async drawBetween() {
    const other = this.other ?? this.seed + 1;
    const last = other === this.seed ? this.seed + 1 : other;
    const frames = 33;
    const answer = await post("/api/interpolate", this.asked({ seeds: [this.seed, last], count: frames, class: this.oneClass() }), "view");
    this.tell(answer);
    const kept = this.parts.view.querySelector("#share")?.value ?? 0.5;
    const image = element("div", { className: "large" }, this.image(answer.samples[0], false));
    const caption = element("output", { htmlFor: "share" });
    const slider = element("input", { id: "share", type: "range", min: 0, max: 1, step: 1 / (frames - 1), value: kept, "aria-label": "Place between the two seeds" });
    const show = () => {
      const frame = Math.round(Number(slider.value) * (frames - 1));
      image.firstChild.src = source(answer.samples[frame]);
      caption.textContent = `${Math.round((100 * frame) / (frames - 1))} %`;
    };
    slider.addEventListener("input", show);
    const seed = element("input", { type: "number", min: 0, value: last, "aria-label": "Second seed", onchange: (event) => { this.other = Number(event.target.value); this.draw(); } });
    const strip = element("div", { className: "strip" }, ...answer.samples.filter((_, place) => place % 4 === 0).map((sample) => element("figure", {}, this.image(sample, false), element("figcaption", {}, `${Math.round(100 * sample.share)} %`))));
    this.parts.view.replaceChildren(element("div", { className: "morph" },
      element("div", { className: "stage" }, image, element("label", {}, element("span", {}, `Seed ${this.seed} to ${last}`, caption), slider)),
      element("div", { className: "stage" }, element("label", {}, "Second seed", seed), strip,
        element("p", { className: "note" }, "The noise is turned from that of one seed to that of the other, so it stays normal all the way; each picture is drawn from its own noise."))));
    show();
  }

  async drawPath() {
    const answer = await post("/api/trajectory", { model: this.model.id, seed: this.seed, class: this.oneClass(), times: 9 }, "view");
    this.parts.timing.replaceChildren(element("b", {}, `${answer.nfe} evaluations along the ODE, one along the jump`), ` · ${milliseconds(answer.milliseconds)} for all of them`);
    const row = (title, samples) => {
      const line = element("div", { className: "row" }, ...samples.map((sample) => element("figure", {}, this.image(sample, false), element("figcaption", {}, `t = ${sample.t.toFixed(2)}`))));
      line.style.setProperty("--columns", samples.length);
      return [element("h2", {}, title), element("div", { className: "scroll" }, line)];
    };
    const of = (path) => answer.samples.filter((sample) => sample.path === path);
    this.parts.view.replaceChildren(element("div", { className: "stage" },
      ...row("The ODE bends: z along its trajectory", of("ode")),
      ...row("The jump is straight: z on the line from noise to where one evaluation lands", of("jump")),
      ...row("One jump from each state of the ODE", of("ahead")),
      element("p", { className: "note" }, "The ODE follows the instantaneous velocity through many evaluations. MeanFlow has learnt the mean of that velocity: one evaluation goes to where the curve ends. Where the last row does not change, jump and curve agree.")));
  }

  // Where a picture is given: dropped, chosen, or a sample.
  pictureArea() {
    const input = element("input", { type: "file", accept: "image/*", id: "upload", onchange: (event) => this.upload(event.target.files[0]) });
    const sample = element("button", { type: "button", onclick: () => this.takeSample() }, "Take the sample of the first seed");
    const drop = element("div", { className: "drop" }, element("label", { htmlFor: "upload" }, "A picture of your own, dropped here or chosen; it is cut to a square and made as small as the model's pictures"), input);
    for (const type of ["dragover", "dragleave", "drop"]) drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.toggleAttribute("data-over", type === "dragover");
      if (type === "drop") this.upload(event.dataTransfer.files[0]);
    });
    return { drop, sample };
  }

  async drawCompletions() {
    const { drop, sample } = this.pictureArea();
    const stage = element("div", { className: "stage" }, drop, element("div", { className: "cards" }, sample));
    this.parts.view.replaceChildren(stage);
    const [, height, width] = this.model.picture;
    if (!this.uploaded) {
      this.parts.timing.textContent = "Mark a part of a picture, and it is drawn anew, the rest staying as it is";
      return;
    }
    if (this.mask?.length !== height * width) this.mask = half(height, width, (y) => y >= height / 2);
    const made = element("div", { className: "grid" });
    const canvas = element("canvas", { width: width * 16, height: height * 16, className: "paint", role: "img", "aria-label": "The picture; what is marked is drawn anew" });
    const preset = (name, marks) => element("button", { type: "button", onclick: () => { this.mask = half(height, width, marks); this.draw(); } }, name);
    const presets = element("div", { className: "cards" }, preset("Lower half", (y) => y >= height / 2), preset("Right half", (_, x) => x >= width / 2), preset("Centre", (y, x) => Math.abs(y + 0.5 - height / 2) < height / 4 && Math.abs(x + 0.5 - width / 2) < width / 4), preset("Nothing", () => false));
    stage.append(element("div", { className: "morph" }, element("div", { className: "stage" }, canvas, presets, element("p", { className: "note" }, "Paint on the picture: what is marked is drawn anew.")), made));
    await this.paint(canvas, () => this.complete(made));
    await this.complete(made);
  }

  // Shows the picture with what is marked, and lets it be painted on.
  async paint(canvas, done) {
    const [, height, width] = this.model.picture;
    const image = new Image();
    image.src = source({ png: this.uploaded });
    await image.decode();
    const context = canvas.getContext("2d");
    const show = () => {
      context.imageSmoothingEnabled = false;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
      context.globalAlpha = 0.75;
      this.mask.forEach((isMarked, place) => isMarked && context.fillRect((place % width) * 16, Math.floor(place / width) * 16, 16, 16));
      context.globalAlpha = 1;
    };
    const mark = (event) => {
      const box = canvas.getBoundingClientRect();
      const reach = Math.max(0, Math.round(width / 24) - 1);
      const [x, y] = [Math.floor(((event.clientX - box.left) / box.width) * width), Math.floor(((event.clientY - box.top) / box.height) * height)];
      for (let row = Math.max(0, y - reach); row <= Math.min(height - 1, y + reach); row += 1)
        for (let column = Math.max(0, x - reach); column <= Math.min(width - 1, x + reach); column += 1) this.mask[row * width + column] = true;
      show();
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); mark(event); });
    canvas.addEventListener("pointermove", (event) => event.buttons && mark(event));
    canvas.addEventListener("pointerup", done);
    show();
  }

  async complete(grid) {
    const seeds = [...Array(Math.min(this.count, 36)).keys()].map((place) => this.seed + place);
    const mask = this.mask.map(Number).join("");
    try {
      const answer = await post("/api/inpaint", { model: this.model.id, picture: this.uploaded, mask, class: this.class === "none" ? null : this.oneClass(), seeds }, "view");
      this.tell(answer);
      grid.style.setProperty("--columns", this.columns(seeds.length));
      grid.replaceChildren(...answer.samples.map((made) => this.button(made, answer)));
    } catch (error) {
      if (!isOvertaken(error)) complain(error);
    }
  }

  async drawVariations() {
    const { drop, sample } = this.pictureArea();
    const strength = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: this.strength ?? 0.3, id: "strength", onchange: (event) => { this.strength = Number(event.target.value); this.draw(); } });
    const stage = element("div", { className: "stage" }, drop, element("div", { className: "cards" }, sample, element("label", {}, element("span", {}, "Strength", element("output", {}, String(this.strength ?? 0.3))), strength)));
    this.parts.view.replaceChildren(stage);
    if (!this.uploaded) {
      this.parts.timing.textContent = "The noise a picture comes from is found, turned towards other noise, and drawn again";
      return;
    }
    const seeds = [...Array(Math.min(this.count, 36)).keys()].map((place) => this.seed + place);
    const answer = await post("/api/vary", { model: this.model.id, picture: this.uploaded, class: this.class === "none" ? null : this.oneClass(), strength: this.strength ?? 0.3, seeds }, "view");
    this.tell(answer);
    const [again, ...variations] = answer.samples;
    const grid = element("div", { className: "grid" }, ...variations.map((made) => this.button(made, answer)));
    grid.style.setProperty("--columns", this.columns(seeds.length));
    grid.style.setProperty("--widest", "6rem");
    const given = element("figure", {}, element("div", { className: "sample" }, this.image({ png: this.uploaded }, false)), element("figcaption", {}, "given"));
    const drawn = element("figure", {}, element("div", { className: "sample" }, this.image(again, false)), element("figcaption", {}, `drawn again from its noise, residual ${answer.residual.toPrecision(2)}`));
    const pair = element("div", { className: "grid" }, given, drawn);
    pair.style.setProperty("--columns", 2);
    stage.append(pair, grid);
  }

  async takeSample() {
    const answer = await post("/api/sample", this.asked({ seeds: [this.seed], class: this.oneClass() }));
    this.uploaded = answer.samples[0].png;
    this.draw();
  }

  async upload(file) {
    if (!file) return;
    const [channels, height, width] = this.model.picture;
    try {
      const bitmap = await createImageBitmap(file);
      const side = Math.min(bitmap.width, bitmap.height);
      const canvas = element("canvas", { width, height });
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.fillStyle = "#fff";
      context.fillRect(0, 0, width, height);
      context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, width, height);
      if (channels === 1) greyscale(context, width, height);
      this.uploaded = canvas.toDataURL("image/png").split(",")[1];
      this.draw();
    } catch {
      complain(new Error(`${file.name}: the browser cannot read it as a picture`));
    }
  }

  showDetail(sample, answer) {
    const name = sample.class_name ?? sample.class;
    const file = `${this.model.id}-seed-${sample.seed ?? "x"}${name === undefined ? "" : `-${name}`}.png`;
    const near = element("div", { className: "stage" });
    const actions = element("div", { className: "actions" }, element("a", { className: "button", href: source(sample), download: file }, "Download PNG"));
    if (this.model.has_data && sample.seed !== undefined) actions.append(element("button", { type: "button", onclick: () => this.showNearest(sample, near) }, "Nearest training pictures"));
    const facts = [sample.seed !== undefined && `seed ${sample.seed}`, name !== undefined && `class ${name}`, `${answer.nfe} evaluation${answer.nfe === 1 ? "" : "s"}`].filter(Boolean).join(" · ");
    this.parts["detail-content"].replaceChildren(element("div", { className: "detail" }, element("div", { className: "large" }, this.image(sample, false)), element("p", { className: "timing" }, facts), actions, near));
    this.parts.detail.showModal();
  }

  async showNearest(sample, place) {
    place.replaceChildren(element("p", { className: "timing" }, "reading the training data …"));
    try {
      const answer = await post("/api/nearest", this.asked({ seed: sample.seed, class: sample.class ?? null, count: 6 }));
      const row = element("div", { className: "row" }, ...answer.samples.map((near) => element("figure", {}, this.image(near, false), element("figcaption", {}, `${near.class_name ?? ""} ${near.distance.toFixed(2)}`))));
      row.style.setProperty("--columns", answer.samples.length);
      place.replaceChildren(element("h3", {}, "Nearest training pictures"), row, element("p", { className: "note" }, `Root mean square over pixels, from −1 to 1; of ${answer.samples[0].of.toLocaleString("en")} pictures.`));
    } catch (error) {
      place.replaceChildren(element("p", { className: "problem" }, error.message));
    }
  }
}

// Which pixels are marked, row by row.
function half(height, width, marks) {
  return [...Array(height * width).keys()].map((place) => marks(Math.floor(place / width), place % width));
}

function greyscale(context, width, height) {
  const pixels = context.getImageData(0, 0, width, height);
  for (let place = 0; place < pixels.data.length; place += 4) {
    const [red, green, blue] = pixels.data.subarray(place, place + 3);
    pixels.data.fill(Math.round(0.299 * red + 0.587 * green + 0.114 * blue), place, place + 3);
  }
  context.putImageData(pixels, 0, 0);
}

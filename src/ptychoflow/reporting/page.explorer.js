
// Explorer of a scan: the values of objects, probes, maps and patterns, drawn as the reader asks. Only the part that is
// visible is drawn, so that an object of any size stays smooth.
const TURN = 2 * Math.PI;
const element = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};
const number = (value) => (value === 0 ? "0" : Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5 ? value.toExponential(2) : value.toPrecision(4));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const rgb = (r, g, b) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;

function decode(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function inflate(text) {
  const stream = new Blob([decode(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function words(text) {
  const bytes = await inflate(text);
  const count = bytes.length / 2;
  const values = new Uint16Array(count);
  for (let i = 0; i < count; i++) values[i] = bytes[i] << 8 | bytes[count + i];
  return values;
}

// Planes of a description: in the page, or in a file beside it that is loaded as a script.
const loading = {};
async function planesOf(description) {
  if (description.planes) return description.planes;
  loading[description.file] ??= new Promise((done, failed) => {
    document.head.append(element("script", { src: description.file, onload: done, onerror: () => failed(new Error(`${description.file} not found: keep it beside the page`)) }));
  });
  await loading[description.file];
  return window.explorerData[description.key];
}

const tables = Object.fromEntries(Object.entries(JSON.parse(document.getElementById("colour-tables").textContent)).map(([name, text]) => {
  const bytes = decode(text);
  return [name, Uint32Array.from({ length: 256 }, (_, i) => rgb(bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]))];
}));
const HUES = Uint8Array.from({ length: 3 * 1024 }, (_, i) => {  // red, green and blue of a hue, saturation 0.85
  const hue = Math.floor(i / 3) / 1024 * 6;
  const sector = (hue + [5, 3, 1][i % 3]) % 6;
  return 255 * (1 - 0.85 * Math.max(0, Math.min(sector, 4 - sector, 1)));
});
const wave = (phase, amplitude) => {
  const hue = 3 * (((phase / TURN + 1) % 1 * 1024) | 0);
  return rgb(HUES[hue] * amplitude, HUES[hue + 1] * amplitude, HUES[hue + 2] * amplitude);
};

const QUANTITIES = {
  phase: { name: "phase (rad)", colours: "cividis" },
  amplitude: { name: "amplitude", colours: "gray" },
  complex: { name: "phase as hue, amplitude as value", colours: "" },
  value: { name: "value", colours: "magma" },
};

class Picture {
  constructor(description) {
    Object.assign(this, description);
    [this.height, this.width] = description.shape;
    this.description = description;
    this.quantities = this.kind === "map" ? ["value"] : this.kind === "probe" ? ["complex", "amplitude", "phase"] : ["phase", "amplitude", "complex"];
  }

  async load() {
    if (this.mask) return this;
    const planes = await planesOf(this.description);
    for (const name of ["amplitude", "phase", "value"]) if (planes[name]) this[name] = await words(planes[name]);
    if (planes.turns) this.turns = new Int8Array((await inflate(planes.turns)).buffer);
    this.mask = await inflate(planes.mask);
    return this;
  }

  // Constant and slopes of the plane through the phase: by least squares where it is unwrapped, else from its differences.
  plane() {
    if (this.fitted) return this.fitted;
    const { width, height, mask } = this;
    const step = Math.max(1, Math.floor(Math.sqrt(width * height / 60000)));
    if (this.turns) {
      const sums = new Float64Array(9);  // n, x, y, xx, xy, yy, p, px, py
      for (let y = 0; y < height; y += step) for (let x = 0; x < width; x += step) {
        const i = y * width + x;
        if (!mask[i]) continue;
        const p = this.phase[i] / 65536 * TURN - Math.PI + TURN * this.turns[i];
        [1, x, y, x * x, x * y, y * y, p, p * x, p * y].forEach((v, k) => { sums[k] += v; });
      }
      this.fitted = solve3([[sums[0], sums[1], sums[2]], [sums[1], sums[3], sums[4]], [sums[2], sums[4], sums[5]]], [sums[6], sums[7], sums[8]]);
    } else {
      const total = [[0, 0], [0, 0]];
      for (let y = 0; y + 1 < height; y += step) for (let x = 0; x + 1 < width; x += step) {
        const i = y * width + x;
        [1, width].forEach((by, axis) => {
          if (!mask[i] || !mask[i + by]) return;
          const turned = (this.phase[i + by] - this.phase[i]) / 65536 * TURN;
          total[axis][0] += Math.cos(turned);
          total[axis][1] += Math.sin(turned);
        });
      }
      this.fitted = [0, Math.atan2(total[0][1], total[0][0]), Math.atan2(total[1][1], total[1][0])];
    }
    return this.fitted;
  }

  // Function of a pixel that returns its value.
  reader(quantity, { unwrap, ramp }) {
    const { width } = this;
    if (quantity === "value") { const { value, low, high } = this; return (i) => low + value[i] / 65535 * (high - low); }
    if (quantity === "amplitude") { const { amplitude, amplitude_max } = this; return (i) => amplitude[i] / 65535 * amplitude_max; }
    const { phase, turns } = this;
    const [a, b, c] = ramp ? this.plane() : [0, 0, 0];
    if (!unwrap || !turns) {
      if (!ramp) return (i) => phase[i] / 65536 * TURN - Math.PI;
      return (i) => { const p = phase[i] / 65536 * TURN - Math.PI - a - b * (i % width) - c * Math.floor(i / width); return p - TURN * Math.round(p / TURN); };
    }
    return (i) => phase[i] / 65536 * TURN - Math.PI + TURN * turns[i] - a - b * (i % width) - c * Math.floor(i / width);
  }
}

function solve3(m, v) {
  const det = (a) => a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) - a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) + a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
  const whole = det(m) || 1;
  return [0, 1, 2].map((k) => det(m.map((row, i) => row.map((value, j) => (j === k ? v[i] : value)))) / whole);
}

// Files of a picture's values.
function npy(values, shape, kind) {
  let header = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`;
  header = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const start = new Uint8Array([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  return new Blob([start, header, values.buffer]);
}

function tiff(values, [height, width]) {
  const entries = [[256, 4, width], [257, 4, height], [258, 3, 32], [259, 3, 1], [262, 3, 1], [273, 4, 0], [277, 3, 1], [278, 4, height], [279, 4, values.byteLength], [339, 3, 3]];
  const size = 8 + 2 + 12 * entries.length + 4;
  entries[5][2] = size;
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, 0x49492a00); view.setUint32(4, 8, true); view.setUint16(8, entries.length, true);
  entries.forEach(([tag, type, value], k) => {
    const at = 10 + 12 * k;
    view.setUint16(at, tag, true); view.setUint16(at + 2, type, true); view.setUint32(at + 4, 1, true);
    if (type === 3) view.setUint16(at + 8, value, true); else view.setUint32(at + 8, value, true);
  });
  return new Blob([view.buffer, values.buffer]);
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

class Explorer {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.data = JSON.parse(this.find(".values").textContent);
    this.pictures = this.data.pictures.map((description) => new Picture(description));
    this.views = {};  // centre in data pixels and CSS pixels per data pixel, by shape
    this.panes = [...root.querySelectorAll(".pane")].map((node) => ({ node, base: node.querySelector(".picture"), marks: node.querySelector(".marks"), pointers: new Map() }));
    this.drawing = false;
    for (const select of [this.find(".first"), this.find(".second")]) {
      this.pictures.forEach((picture, k) => select.append(element("option", { value: k, textContent: picture.name })));
    }
    for (const name of Object.keys(tables)) this.find(".colours").append(element("option", { value: name, textContent: name }));
    const refined = this.pictures.findIndex((picture) => picture.name.includes("refined"));
    this.find(".first").value = Math.max(refined, 0);
    for (const node of root.querySelectorAll(".of-positions")) node.hidden = !this.data.positions;
    this.listen();
    root.hidden = false;
    this.ready = this.choose();
    new ResizeObserver(() => this.draw()).observe(this.panes[0].node);
  }

  listen() {
    const on = (selector, event, act) => this.find(selector).addEventListener(event, act);
    for (const selector of [".first", ".second"]) on(selector, "change", () => { this.ready = this.choose(); });
    on(".quantity", "change", () => { this.find(".colours").value = QUANTITIES[this.quantity].colours; this.scale(); });
    for (const selector of [".unwrap", ".ramp"]) on(selector, "change", () => this.scale());
    for (const selector of [".colours", ".dots", ".arrows"]) on(selector, "change", () => this.draw());
    for (const selector of [".low", ".high"]) on(selector, "input", () => this.slide());
    on(".auto", "click", () => this.scale());
    on(".in", "click", () => this.zoom(1.5));
    on(".out", "click", () => this.zoom(1 / 1.5));
    on(".fit", "click", () => this.fit());
    on(".line", "click", () => this.toggleLine());
    on(".png", "click", () => this.savePng());
    on(".tiff", "click", () => save(tiff(this.values(), this.shown[0].shape), `${this.fileName()}.tif`));
    on(".npy", "click", () => this.saveNpy());
    for (const pane of this.panes) this.listenToPane(pane);
  }

  get quantity() { return this.find(".quantity").value; }
  get options() { return { unwrap: this.find(".unwrap").checked, ramp: this.find(".ramp").checked }; }
  // A picture of another kind beside the first one has its own first quantity, limits and colours.
  isLikeFirst(picture) { return picture.kind === this.shown[0].kind && picture.quantities.includes(this.quantity); }
  quantityOf(picture) { return this.isLikeFirst(picture) ? this.quantity : picture.quantities[0]; }

  async choose() {
    const numbers = [this.find(".first").value, this.find(".second").value].filter((value) => value !== "");
    try {
      this.shown = await Promise.all(numbers.map((value) => this.pictures[value].load()));
    } catch (error) {
      this.find(".readout").textContent = error.message;
      return;
    }
    const select = this.find(".quantity");
    const before = select.value;
    select.replaceChildren(...this.shown[0].quantities.map((name) => element("option", { value: name, textContent: this.shown[0].kind === "map" ? this.shown[0].name : QUANTITIES[name].name })));
    if (this.shown[0].quantities.includes(before)) select.value = before;
    if (select.value !== before) this.find(".colours").value = QUANTITIES[select.value].colours;
    this.panes.forEach((pane, k) => { pane.node.hidden = k >= this.shown.length; pane.picture = this.shown[k]; });
    this.find(".unwrap").disabled = !this.shown.some((picture) => picture.turns);
    this.line = null;
    this.scale();
  }

  // Smallest and largest value of a picture, and the limits between which the middle 99 % lie.
  rangesOf(picture) {
    const quantity = this.quantityOf(picture);
    const read = picture.reader(quantity === "complex" ? "amplitude" : quantity, this.options);
    const step = Math.max(1, Math.floor(picture.mask.length / 100000));
    const values = [];
    for (let i = 0; i < picture.mask.length; i += step) if (picture.mask[i]) values.push(read(i));
    values.sort((a, b) => a - b);
    const at = (fraction) => values[Math.min(values.length - 1, Math.round(fraction * (values.length - 1)))] ?? 0;
    const range = [at(0), Math.max(at(1), at(0) + 1e-6)];
    const limits = quantity === "complex" ? [0, range[1]] : [at(0.005), at(0.995)];
    return { range, limits: limits[1] > limits[0] ? limits : range };
  }

  scale() {
    const [picture] = this.shown;
    const quantity = this.quantityOf(picture);
    for (const node of this.root.querySelectorAll(".of-phase")) node.hidden = quantity !== "phase";
    Object.assign(this, this.rangesOf(picture));
    this.ownLimits = new Map(this.shown.filter((other) => !this.isLikeFirst(other)).map((other) => [other, this.rangesOf(other).limits]));
    const place = (value) => Math.round((value - this.range[0]) / (this.range[1] - this.range[0]) * 1000);
    this.find(".low").value = place(this.limits[0]);
    this.find(".high").value = place(this.limits[1]);
    this.draw();
  }

  slide() {
    const [low, high] = [".low", ".high"].map((name) => this.range[0] + this.find(name).value / 1000 * (this.range[1] - this.range[0]));
    this.limits = [low, Math.max(high, low + (this.range[1] - this.range[0]) * 1e-3)];
    this.draw();
  }

  // Function of a pixel that returns its colour, 0 where it is not known.
  colour(picture) {
    const quantity = this.quantityOf(picture);
    const [low, high] = this.ownLimits.get(picture) ?? this.limits;
    const { mask } = picture;
    if (quantity === "complex") {
      const phase = picture.reader("phase", {}), amplitude = picture.reader("amplitude", {});
      return (i) => (mask[i] ? wave(phase(i), clamp((amplitude(i) - low) / (high - low), 0, 1)) : 0);
    }
    const read = picture.reader(quantity, this.options);
    const colours = this.isLikeFirst(picture) ? this.find(".colours").value : QUANTITIES[quantity].colours;
    const table = tables[colours] ?? tables.gray;
    const factor = 255 / (high - low);
    return (i) => (mask[i] ? table[clamp(((read(i) - low) * factor) | 0, 0, 255)] : 0);
  }

  view(picture, pane) {
    const name = picture.shape.join();
    this.views[name] ??= { x: picture.width / 2, y: picture.height / 2, scale: this.fitting(picture, pane) };
    return this.views[name];
  }

  fitting(picture, pane) { return Math.min(pane.node.clientWidth / picture.width, pane.node.clientHeight / picture.height) || 1; }

  draw() {
    if (!this.shown || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.drawNow(); });
  }

  // Drawn fast while it moves, and well once it stands still.
  move() {
    clearTimeout(this.moving);
    this.moving = setTimeout(() => { this.moving = 0; this.draw(); }, 150);
    this.draw();
  }

  drawNow() {
    this.find(".low-value").textContent = number(this.limits[0]);
    this.find(".high-value").textContent = number(this.limits[1]);
    this.drawKey();
    for (const pane of this.panes) if (!pane.node.hidden && pane.node.clientWidth) { this.drawPane(pane); this.mark(pane); }
  }

  drawPane({ node, base, marks, picture }) {
    const view = this.view(picture, { node });
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [node.clientWidth, node.clientHeight].map((side) => Math.max(1, Math.round(side * ratio)));
    for (const canvas of [base, marks]) if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    const context = base.getContext("2d");
    const image = context.createImageData(wide, high);
    const pixels = new Uint32Array(image.data.buffer);
    const step = 1 / (view.scale * ratio);
    const [left, top] = [view.x - wide / 2 * step, view.y - high / 2 * step];
    const colour = this.colour(picture);
    const samples = this.moving ? 1 : clamp(Math.round(step), 1, 4);  // of a pixel, along each side, where the picture is made smaller
    const columns = Int32Array.from({ length: wide * samples }, (_, k) => Math.floor(left + (k + 0.5) * step / samples));
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        let r = 0, g = 0, b = 0, count = 0;
        for (let v = 0; v < samples; v++) {
          const row = Math.floor(top + (y + (v + 0.5) / samples) * step);
          if (row < 0 || row >= picture.height) continue;
          for (let u = 0; u < samples; u++) {
            const column = columns[x * samples + u];
            if (column < 0 || column >= picture.width) continue;
            const c = colour(row * picture.width + column);
            if (c) { r += c & 255; g += c >>> 8 & 255; b += c >>> 16 & 255; count++; }
          }
        }
        if (count) pixels[y * wide + x] = rgb(r / count, g / count, b / count);
      }
    }
    context.putImageData(image, 0, 0);
    node.querySelector(".caption").textContent = picture.name;
  }

  drawKey() {
    const key = this.find(".key");
    const isWave = this.quantityOf(this.shown[0]) === "complex";
    key.classList.toggle("wheel", isWave);
    [key.width, key.height] = isWave ? [60, 60] : [256, 14];
    const context = key.getContext("2d");
    const image = context.createImageData(key.width, key.height);
    const pixels = new Uint32Array(image.data.buffer);
    const table = tables[this.find(".colours").value] ?? tables.gray;
    for (let i = 0; i < pixels.length; i++) {
      const [x, y] = [i % key.width, Math.floor(i / key.width)];
      pixels[i] = isWave ? wave(Math.atan2(y - 30, x - 30), Math.min(1, Math.hypot(y - 30, x - 30) / 30)) : table[x];
    }
    context.putImageData(image, 0, 0);
  }

  // Where a point of the pane lies in the data, px, and back.
  toData(pane, x, y) {
    const view = this.view(pane.picture, pane);
    return [view.x + (x - pane.node.clientWidth / 2) / view.scale, view.y + (y - pane.node.clientHeight / 2) / view.scale];
  }

  toPane(pane, x, y) {
    const view = this.view(pane.picture, pane);
    return [(x - view.x) * view.scale + pane.node.clientWidth / 2, (y - view.y) * view.scale + pane.node.clientHeight / 2];
  }

  length(pixels) {
    const metres = pixels * this.data.pixel_m;
    const [unit, name] = [[1e-3, "mm"], [1e-6, "µm"], [1e-9, "nm"]].find(([size]) => metres >= 0.9999 * size) ?? [1e-9, "nm"];
    return `${parseFloat((metres / unit).toPrecision(3))} ${name}`;
  }

  mark(pane) {
    const context = pane.marks.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, pane.node.clientWidth, pane.node.clientHeight);
    if (pane.picture.kind !== "probe") this.markPositions(pane, context);
    this.markLine(pane, context);
    this.markScale(pane, context);
  }

  markPositions(pane, context) {
    const { positions } = this.data;
    const factor = Number(this.find(".arrows").value);
    if (positions && (this.find(".dots").checked || factor)) {
      context.strokeStyle = "#ff3b30"; context.fillStyle = "#ff3b30"; context.lineWidth = 1.2;
      positions.refined.forEach(([y, x], k) => {
        const [px, py] = this.toPane(pane, x + 0.5, y + 0.5);
        if (px < -50 || py < -50 || px > pane.node.clientWidth + 50 || py > pane.node.clientHeight + 50) return;
        if (this.find(".dots").checked) context.fillRect(px - 1.25, py - 1.25, 2.5, 2.5);
        if (factor) {
          const [fromY, fromX] = positions.recorded[k];
          const scale = this.view(pane.picture, pane).scale * factor;
          context.beginPath();
          context.moveTo(px, py);
          context.lineTo(px - (x - fromX) * scale, py - (y - fromY) * scale);
          context.stroke();
        }
      });
    }
    if (this.browsed !== undefined) {
      const [y, x] = this.data.patterns.positions[this.browsed];
      const [px, py] = this.toPane(pane, x + 0.5, y + 0.5);
      context.strokeStyle = "#34c759"; context.lineWidth = 2;
      context.beginPath(); context.arc(px, py, 7, 0, TURN); context.stroke();
    }
  }

  markLine(pane, context) {
    if (!this.line) return;
    const [start, end] = this.line.map(([x, y]) => this.toPane(pane, x, y));
    for (const [style, width] of [["#000", 3], ["#ffd60a", 1.5]]) {
      context.strokeStyle = style; context.lineWidth = width;
      context.beginPath(); context.moveTo(...start); context.lineTo(...end); context.stroke();
    }
  }

  markScale(pane, context) {
    const view = this.view(pane.picture, pane);
    const most = 0.3 * pane.node.clientWidth / view.scale * this.data.pixel_m;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((digit) => digit * power).find((value) => value <= most) ?? power;
    const wide = length / this.data.pixel_m * view.scale;
    const y = pane.node.clientHeight - 14;
    context.fillStyle = "rgb(0 0 0 / 0.55)"; context.fillRect(8, y - 20, wide + 12, 28);
    context.fillStyle = "#fff"; context.fillRect(14, y, wide, 3);
    context.font = "12px system-ui, sans-serif"; context.fillText(this.length(length / this.data.pixel_m) + (this.data.nominal ? " nominal" : ""), 14, y - 5, Math.max(wide, 60));
  }

  listenToPane(pane) {
    const { node, marks } = pane;
    const at = (event) => { const box = marks.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    marks.addEventListener("pointerdown", (event) => {
      if (!pane.picture) return;  // its values are still being unpacked
      node.focus({ preventScroll: true });
      try { marks.setPointerCapture(event.pointerId); } catch { /* a pointer that a script made up */ }
      pane.pointers.set(event.pointerId, at(event));
      pane.moved = 0;
      if (this.drawing || event.shiftKey) { const point = this.toData(pane, ...at(event)); this.line = [point, point]; pane.lining = true; }
    });
    marks.addEventListener("pointermove", (event) => {
      if (!pane.picture) return;
      const point = at(event);
      this.readOut(pane, point);
      const before = pane.pointers.get(event.pointerId);
      if (!before) return;
      pane.moved += Math.hypot(point[0] - before[0], point[1] - before[1]);
      if (pane.lining) this.line = [this.line[0], this.toData(pane, ...point)];
      else if (pane.pointers.size === 2) this.pinch(pane, event.pointerId, point);
      else { const view = this.view(pane.picture, pane); view.x -= (point[0] - before[0]) / view.scale; view.y -= (point[1] - before[1]) / view.scale; }
      pane.pointers.set(event.pointerId, point);
      this.move();
    });
    const end = (event) => {
      if (!pane.pointers.delete(event.pointerId)) return;
      if (pane.lining) { pane.lining = false; this.drawProfile(); }
      else if (event.type === "pointerup" && pane.moved < 4) this.browse(pane, ...this.toData(pane, ...at(event)));
    };
    marks.addEventListener("pointerup", end);
    marks.addEventListener("pointercancel", end);
    marks.addEventListener("dblclick", (event) => this.zoom(2, pane, at(event)));
    node.addEventListener("wheel", (event) => {
      if (!pane.picture || (!event.ctrlKey && !event.metaKey && document.activeElement !== node)) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.006 : 0.002)), pane, at(event));
    }, { passive: false });
    node.addEventListener("keydown", (event) => this.key(pane, event));
  }

  pinch(pane, id, point) {
    const [other] = [...pane.pointers].filter(([pointer]) => pointer !== id).map(([, place]) => place);
    const before = pane.pointers.get(id);
    const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    this.zoom(apart(point) / Math.max(apart(before), 1), pane, [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2]);
  }

  key(pane, event) {
    if (!pane.picture) return;
    const view = this.view(pane.picture, pane);
    const by = 40 / view.scale;
    const acts = {
      ArrowLeft: () => { view.x -= by; }, ArrowRight: () => { view.x += by; }, ArrowUp: () => { view.y -= by; }, ArrowDown: () => { view.y += by; },
      "+": () => this.zoom(1.25, pane), "=": () => this.zoom(1.25, pane), "-": () => this.zoom(0.8, pane), 0: () => this.fit(), l: () => this.toggleLine(), L: () => this.toggleLine(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
    this.move();
  }

  zoom(factor, pane = this.panes[0], [x, y] = [pane.node.clientWidth / 2, pane.node.clientHeight / 2]) {
    if (!pane.picture) return;
    const view = this.view(pane.picture, pane);
    const [dataX, dataY] = this.toData(pane, x, y);
    view.scale = clamp(view.scale * factor, this.fitting(pane.picture, pane) / 4, 80);
    const [nowX, nowY] = this.toData(pane, x, y);
    view.x += dataX - nowX; view.y += dataY - nowY;
    this.move();
  }

  fit() { this.views = {}; this.draw(); }

  toggleLine() {
    this.drawing = !this.drawing;
    this.find(".line").setAttribute("aria-pressed", this.drawing);
    for (const pane of this.panes) pane.marks.classList.toggle("drawing", this.drawing);
  }

  valueText(picture, x, y) {
    const i = Math.floor(y) * picture.width + Math.floor(x);
    if (x < 0 || y < 0 || x >= picture.width || y >= picture.height || !picture.mask[i]) return "";
    if (picture.kind === "map") return `${picture.name} ${number(picture.reader("value", {})(i))}`;
    return `phase ${number(picture.reader("phase", this.options)(i))} rad, amplitude ${number(picture.reader("amplitude", {})(i))}`;
  }

  readOut(pane, point) {
    const [x, y] = this.toData(pane, ...point);
    const texts = this.shown.filter((picture) => picture.shape.join() === pane.picture.shape.join()).map((picture) => this.valueText(picture, x, y)).filter(Boolean);
    this.find(".readout").textContent = `x ${this.length(Math.max(x, 0))}, y ${this.length(Math.max(y, 0))} (pixel ${Math.floor(x)}, ${Math.floor(y)}): ${texts.join("; ") || "not reconstructed"}`;
  }

  // Values along the line, between pixels by bilinear interpolation, of each picture shown.
  drawProfile() {
    const [[x0, y0], [x1, y1]] = this.line;
    const pixels = Math.hypot(x1 - x0, y1 - y0);
    if (pixels < 1) { this.line = null; this.find(".profile").replaceChildren(); this.draw(); return; }
    const count = clamp(Math.ceil(pixels * 2), 2, 2000);
    const curves = this.shown.map((picture) => {
      const quantity = this.quantityOf(picture) === "complex" ? "phase" : this.quantityOf(picture);
      const read = picture.reader(quantity, this.options);
      return Array.from({ length: count }, (_, k) => {
        const x = x0 + (x1 - x0) * k / (count - 1) - 0.5, y = y0 + (y1 - y0) * k / (count - 1) - 0.5;
        const [left, top] = [Math.floor(x), Math.floor(y)];
        if (left < 0 || top < 0 || left + 1 >= picture.width || top + 1 >= picture.height) return NaN;
        const i = top * picture.width + left;
        const corners = [i, i + 1, i + picture.width, i + picture.width + 1];
        if (corners.some((j) => !picture.mask[j])) return NaN;
        const [a, b, c, d] = corners.map(read), u = x - left, v = y - top;
        return (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v;
      });
    });
    const known = curves.flat().filter(Number.isFinite);
    if (!known.length) return;
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const wide = Math.max(this.find(".profile").clientWidth, 300), last = wide - 20;
    const point = (k, value) => `${(60 + (last - 60) * k / (count - 1)).toFixed(1)} ${(140 - 125 * (value - low) / (high - low || 1)).toFixed(1)}`;
    const paths = curves.map((curve, number_) => {
      const d = curve.map((value, k) => (Number.isFinite(value) ? `${k && Number.isFinite(curve[k - 1]) ? "L" : "M"}${point(k, value)}` : "")).join("");
      return `<path d="${d}" fill="none" stroke="var(--c${number_})" stroke-width="1.6" vector-effect="non-scaling-stroke"/>`;
    });
    const text = (x, y, words, anchor) => `<text x="${x}" y="${y}" font-size="13" fill="currentColor" text-anchor="${anchor}">${words}</text>`;
    this.find(".profile").innerHTML = `<svg viewBox="0 0 ${wide} 170" role="img" aria-label="profile along the line">${paths.join("")}<path d="M60 140H${last}M60 15V140" stroke="var(--rule)" fill="none"/>${text(55, 20, number(high), "end")}${text(55, 140, number(low), "end")}${text(60, 160, "0", "middle")}${text(last, 160, this.length(pixels), "end")}</svg>`;
    this.find(".readout").textContent = `line of ${this.length(pixels)} (${pixels.toFixed(1)} px), from ${number(low)} to ${number(high)}`;
  }

  async browse(pane, x, y) {
    const { patterns } = this.data;
    if (!patterns || pane.picture.kind === "probe") return;
    const distances = patterns.positions.map(([py, px]) => Math.hypot(px - x, py - y));
    this.browsed = distances.indexOf(Math.min(...distances));
    if (!this.stacks) {
      const planes = await planesOf(patterns);
      this.stacks = await Promise.all([planes.measured, planes.expected].map(inflate));
    }
    const { side } = patterns;
    const [measured, expected] = this.stacks.map((stack) => stack.subarray(this.browsed * side * side, (this.browsed + 1) * side * side));
    const counts = (level) => 10 ** (level / 254 * patterns.most) - 1;
    const residual = Array.from(measured, (level, i) => (level === 255 ? NaN : 2 * patterns.binning * (Math.sqrt(counts(level)) - Math.sqrt(counts(expected[i])))));
    const most = Math.max(1, ...measured.filter((level) => level < 255));
    const shade = (level) => (level === 255 ? 0 : tables.magma[clamp(Math.round(level / most * 255), 0, 255)]);
    const figure = (title, colours) => {
      const canvas = element("canvas", { width: side, height: side });
      const context = canvas.getContext("2d"), image = context.createImageData(side, side);
      new Uint32Array(image.data.buffer).set(colours);
      context.putImageData(image, 0, 0);
      return element("figure", {}, canvas, element("figcaption", { textContent: title }));
    };
    this.find(".browsed").replaceChildren(
      figure(`pattern ${patterns.index[this.browsed]}, measured, log counts`, Array.from(measured, shade)),
      figure(`expected, R-factor ${number(patterns.r_factor[this.browsed])}`, Array.from(expected, shade)),
      figure("residual, −5 σ (blue) to +5 σ (red)", residual.map((sigma) => (Number.isNaN(sigma) ? 0 : tables.RdBu_r[clamp(Math.round((sigma + 5) * 25.5), 0, 255)]))),
    );
    this.find(".browsed").hidden = false;
    this.draw();
  }

  fileName() { return `${this.data.name}-${this.shown[0].name}-${this.quantityOf(this.shown[0])}`.replace(/[^A-Za-z0-9_.-]+/g, "-"); }

  values() {
    const [picture] = this.shown;
    const quantity = this.quantityOf(picture);
    const read = picture.reader(quantity === "complex" ? "phase" : quantity, this.options);
    return Float32Array.from({ length: picture.mask.length }, (_, i) => (picture.mask[i] ? read(i) : NaN));
  }

  saveNpy() {
    const [picture] = this.shown;
    if (this.quantityOf(picture) !== "complex") { save(npy(this.values(), picture.shape, "<f4"), `${this.fileName()}.npy`); return; }
    const phase = picture.reader("phase", {}), amplitude = picture.reader("amplitude", {});
    const values = new Float32Array(2 * picture.mask.length);
    for (let i = 0; i < picture.mask.length; i++) [values[2 * i], values[2 * i + 1]] = [amplitude(i) * Math.cos(phase(i)), amplitude(i) * Math.sin(phase(i))];
    save(npy(values, picture.shape, "<c8"), `${this.fileName()}.npy`);
  }

  savePng() {
    const [picture] = this.shown;
    const canvas = element("canvas", { width: picture.width, height: picture.height });
    const context = canvas.getContext("2d"), image = context.createImageData(picture.width, picture.height);
    const pixels = new Uint32Array(image.data.buffer), colour = this.colour(picture);
    for (let i = 0; i < pixels.length; i++) pixels[i] = colour(i);
    context.putImageData(image, 0, 0);
    canvas.toBlob((blob) => save(blob, `${this.fileName()}.png`));
  }
}

// An explorer is made when its section comes near the window, so that a page of many scans opens at once.
const explorers = new Map();
const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting && !explorers.has(entry.target)) explorers.set(entry.target, new Explorer(entry.target.querySelector(".explorer")));
}, { rootMargin: "600px" });
if (window.DecompressionStream) for (const node of document.querySelectorAll(".explorer")) nearby.observe(node.closest("section"));

// What a person sees: durations, their distribution, sample images, classes of a photo.

const SVG = "http://www.w3.org/2000/svg";
const BINS = 32;
const SHOWN_SAMPLES = 12;

export const byId = (id) => document.getElementById(id);

export function milliseconds(nanoseconds) {
  return `${(nanoseconds / 1e6).toFixed(2)} ms`;
}

/** Statistics of the server's result, which alone are kept. */
export function showDurations({ latency, load, validity }) {
  const rows = {
    median: milliseconds(latency.p50_ns),
    "90 %": latency.p90_ns === null ? "–" : milliseconds(latency.p90_ns),
    "99 %": latency.p99_ns === null ? "–" : milliseconds(latency.p99_ns),
    "first load": milliseconds(load.cold_ns),
  };
  byId("durations").replaceChildren(...Object.entries(rows).map(([name, value]) => {
    const entry = document.createElement("div");
    entry.append(element("dt", name), element("dd", value));
    return entry;
  }));
  byId("sent").textContent = validity.valid
    ? "The result was sent."
    : `The result was sent; its durations are not to be trusted (${validity.reasons.join(", ")}).`;
}

/** A histogram from the fastest to the 99th percentile; slower ones are in the last bar. */
export function showHistogram(durations) {
  const sorted = [...durations].sort((a, b) => a - b);
  const least = sorted[0];
  const most = Math.max(sorted[Math.ceil(sorted.length * 0.99) - 1], least + 1);
  const counts = new Array(BINS).fill(0);
  for (const value of sorted) counts[Math.min(BINS - 1, Math.floor(((value - least) / (most - least)) * BINS))]++;
  const highest = Math.max(...counts);
  const width = 320 / BINS;
  byId("histogram").replaceChildren(...counts.map((count, bin) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = (118 * count) / highest;
    const sizes = { x: bin * width + 0.5, y: 120 - height, width: width - 1, height };
    for (const [name, value] of Object.entries(sizes)) bar.setAttribute(name, value);
    return bar;
  }));
  byId("histogram").setAttribute("aria-label", `durations of ${durations.length} inferences`);
  byId("fastest").textContent = milliseconds(least);
  byId("slowest").textContent = milliseconds(most);
}

export function showSamples({ accuracy, parity }, { images, labels }, logits, { labels: names, shape }) {
  byId("accuracy").textContent =
    `${percent(accuracy.top1)} of ${accuracy.n} right; ${percent(parity.top1_agreement)} as on the desktop`;
  byId("samples").replaceChildren(...images.slice(0, SHOWN_SAMPLES).map((image, index) => {
    const item = document.createElement("li");
    const best = largest(logits[index]);
    const canvas = document.createElement("canvas");
    draw(canvas, image, shape);
    item.append(canvas, element("span", names[best]));
    item.className = best === labels[index] ? "" : "wrong";
    item.title = `label: ${names[labels[index]]}`;
    return item;
  }));
}

export function showClasses(logits, names) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  const order = Array.from(powers.keys()).sort((a, b) => powers[b] - powers[a]).slice(0, 5);
  byId("classes").replaceChildren(...order.map((index) => {
    const item = document.createElement("li");
    const meter = document.createElement("meter");
    meter.value = powers[index] / sum;
    item.append(element("span", names[index]), element("span", percent(powers[index] / sum)), meter);
    return item;
  }));
}

export function draw(canvas, pixels, [height, width]) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([pixels[i * 3], pixels[i * 3 + 1], pixels[i * 3 + 2], 255], i * 4);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function largest(values) {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

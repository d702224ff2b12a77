// The page: choose, measure, send, classify a photo.

import { load, samples, send, settings as readSettings } from "./bundle.js";
import { describeDevice } from "./device.js";
import { measure } from "./measure.js";
import { readPhoto, toInput } from "./photo.js";
import { choices, openModel, prepare, threadsOf } from "./runtimes.js";
import { byId, draw, showClasses, showDurations, showHistogram, showSamples } from "./show.js";

const NEWS_MS = 1000;

let settings;
let offered;
let gpu;
let opened = null; // what the last photo was classified with, ready for the next
let photos = Promise.resolve(); // one photo at a time

async function begin() {
  settings = await readSettings();
  ({ found: offered, gpu } = await choices(settings.artifacts));
  byId("lead").textContent = `${settings.images} images of ${settings.shape[1]} × ${settings.shape[0]} pixels, ${settings.labels.length} classes`;
  byId("choice").replaceChildren(...offered.map(({ artifact, backend }, index) => {
    const where = backend === "wasm" ? "processor" : "graphics (WebGPU)";
    return new Option(`${artifact.runtime}, ${where}: ${artifact.name}`, index);
  }));
  byId("hint").textContent = crossOriginIsolated ? "" : "Not a secure address: no threads, no WebGPU, and a coarse clock.";
  byId("start").onclick = () => run();
  for (const id of ["camera", "file"]) byId(id).onchange = ({ target }) => takePhoto(target);
  addEventListener("pagehide", () => navigator.sendBeacon("left", "{}"));
  busy(false);
  if (settings.starts) await run();
}

async function run() {
  busy(true);
  complain("problem", "");
  byId("running").hidden = false;
  byId("results").hidden = true;
  try {
    await forget();
    const images = await samples(settings);
    const chosen = offered[byId("choice").value];
    const { upload, logits } = await measure(chosen, settings, images.images, reporter());
    upload.runtime.gpu = chosen.backend === "webgpu" ? gpu : null;
    upload.device = await describeDevice();
    const result = await send("result", upload);
    const durations = upload.pairs.flatMap(({ blocks }) => blocks.filter(({ arm }) => arm === "cand").flatMap((b) => b.durations_ns));
    byId("results").hidden = false;
    showDurations(result);
    showHistogram(durations);
    showSamples(result, images, logits, settings);
  } catch (error) {
    complain("problem", `It did not work: ${error.message}`);
    await send("news", { failed: error.message.slice(0, 300) }).catch(() => {});
  } finally {
    byId("running").hidden = true;
    busy(false);
  }
}

/** Shows every step, and tells the server about once a second. */
function reporter() {
  let last = 0;
  return async (phase, part) => {
    byId("bar").value = part;
    byId("phase").textContent = `${phase} · ${Math.round(100 * part)} %`;
    await new Promise((drawn) => setTimeout(drawn));
    if (part > 0 && performance.now() - last < NEWS_MS) return;
    last = performance.now();
    await send("news", { phase, part });
  };
}

function takePhoto(field) {
  const [file] = field.files;
  field.value = ""; // so that the same file can be chosen again
  if (file) photos = photos.then(() => classify(file));
}

async function classify(file) {
  busy(true);
  complain("photo-problem", "");
  byId("photo").hidden = true;
  try {
    const photo = await readPhoto(file).catch(() => { throw new Error(`${file.name} is no image that this browser reads`); });
    const input = toInput(photo, settings);
    const logits = await (await ready()).run(input);
    draw(byId("preview"), input, settings.shape);
    showClasses(logits, settings.labels);
    byId("photo").hidden = false;
  } catch (error) {
    complain("photo-problem", error.message);
  } finally {
    busy(false);
  }
}

async function ready() {
  const index = byId("choice").value;
  if (opened?.index === index) return opened.session;
  await forget();
  const { artifact, backend } = offered[index];
  await prepare(artifact.runtime, backend);
  const bytes = new Uint8Array(await load(`bundle/${artifact.file}`));
  const threads = threadsOf(artifact.runtime, settings.threads);
  const session = await openModel(artifact.runtime, bytes, { backend, threads, shape: settings.shape });
  opened = { index, session };
  return session;
}

async function forget() {
  await opened?.session.close();
  opened = null;
}

function busy(is) {
  for (const id of ["choice", "start", "camera", "file"]) byId(id).disabled = is;
}

function complain(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

begin().catch((error) => {
  byId("lead").textContent = "";
  complain("problem", error.message);
});

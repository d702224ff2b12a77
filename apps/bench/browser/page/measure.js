// The phases of a run: load, first inference, interleaved blocks, every image once. Durations are integer nanoseconds.

import { load } from "./bundle.js";
import { openModel, prepare, threadsOf } from "./runtimes.js";

const BREATH_MS = 50;

/** Everything the server makes a result of; `heard(phase, part)` is told how far it is. */
export async function measure({ artifact, backend }, settings, images, heard) {
  const visible = watchVisibility();
  const { runtime } = artifact;
  const options = { backend, threads: threadsOf(runtime, settings.threads), shape: settings.shape };
  const startedAt = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const batteryBefore = await battery();
  await heard("load", 0);
  await prepare(runtime, backend);
  const plan = settings.latency;
  const { session, ...loaded } = await open(artifact.file, runtime, options, images[0], plan);
  const arms = { cand: session };
  if (artifact.reference) arms.base = (await open(artifact.reference, runtime, options, images[0], plan)).session;
  await heard("latency", 0.05);
  const kernelBefore = referenceKernel(plan.page_kernel);
  const latency = await interleaved(arms, images[0], plan, (part) => heard("latency", 0.05 + 0.5 * part));
  const logits = [];
  const breathe = breather();
  for (const [index, image] of images.entries()) {
    logits.push(await session.run(image));
    if (await breathe()) await heard("accuracy", 0.55 + (0.45 * index) / images.length);
  }
  const kernelAfter = referenceKernel(plan.page_kernel);
  await Promise.all(Object.values(arms).map((arm) => arm.close()));
  return {
    logits,
    upload: {
      artifact: artifact.name,
      runtime: { name: runtime, backend, threads: options.threads, isolated: crossOriginIsolated },
      battery: [batteryBefore, await battery()],
      started_at: startedAt,
      hidden: visible.wasHidden(),
      load: loaded,
      kernel: [kernelBefore, kernelAfter],
      logits: base64(logits),
      ...latency,
    },
  };
}

async function open(file, runtime, options, image, plan) {
  const bytes = new Uint8Array(await load(`bundle/${file}`));
  const times = [];
  let session;
  let first;
  for (let i = 0; i <= plan.warm_loads; i++) {
    // A runtime may keep the bytes it is given.
    const own = bytes.slice();
    const begun = performance.now();
    const opened = await openModel(runtime, own, options);
    times.push(since(begun));
    if (i > 0) {
      await opened.close();
      continue;
    }
    session = opened;
    const start = performance.now();
    await session.run(image);
    first = since(start);
  }
  return { session, cold_ns: times[0], warm_ns: times.slice(1), first_inference_ns: first };
}

/** Pairs of blocks, the arms of each in seeded random order; stops after a pair when the time budget is spent. */
async function interleaved(arms, image, plan, heard) {
  const began = performance.now();
  const random = seeded(plan.seed);
  for (const arm of Object.values(arms)) for (let i = 0; i < plan.warmup_runs; i++) await arm.run(image);
  const warmup = (performance.now() - began) / 1000;
  const pairs = [];
  while (pairs.length < plan.pairs && (!pairs.length || performance.now() - began < plan.budget_s * 1000)) {
    const order = Object.keys(arms);
    if (random() < 0.5) order.reverse();
    const blocks = [];
    const before = referenceKernel(plan.page_kernel);
    for (const arm of order) blocks.push({ arm, ...(await block(arms[arm], image, plan, began)) });
    pairs.push({ kernel: [before, referenceKernel(plan.page_kernel)], blocks });
    await heard(pairs.length / plan.pairs);
  }
  return { warmup_s: warmup, pairs };
}

async function block(session, image, plan, began) {
  const started = (performance.now() - began) / 1000;
  for (let i = 0; i < plan.block_warmup; i++) await session.run(image);
  const durations = [];
  for (let i = 0; i < plan.block_runs; i++) {
    const begun = performance.now();
    await session.run(image);
    durations.push(since(begun));
  }
  return { started_s: started, durations_ns: durations };
}

function since(begun) {
  return Math.max(1, Math.round((performance.now() - begun) * 1e6));
}

/** ns of a fixed small matrix product, the fastest of a few: what it takes on an undisturbed device. */
function referenceKernel({ side, products, repeats }) {
  const a = new Float32Array(side ** 2).fill(1);
  const product = new Float32Array(side ** 2);
  let fastest = Infinity;
  for (let repeat = 0; repeat < repeats; repeat++) {
    const begun = performance.now();
    for (let twice = 0; twice < products; twice++) {
      for (let i = 0; i < side; i++) {
        for (let j = 0; j < side; j++) {
          let sum = 0;
          for (let k = 0; k < side; k++) sum += a[i * side + k] * a[k * side + j];
          product[i * side + j] = sum;
        }
      }
    }
    fastest = Math.min(fastest, since(begun));
  }
  return fastest;
}

/** Lets the browser draw now and then; tells when it did. */
function breather() {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < BREATH_MS) return false;
    await new Promise((resume) => setTimeout(resume));
    last = performance.now();
    return true;
  };
}

/** Mulberry32: an order of work, not a secret. */
function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function watchVisibility() {
  let hidden = document.hidden;
  document.addEventListener("visibilitychange", () => { hidden ||= document.hidden; });
  return { wasHidden: () => hidden };
}

async function battery() {
  try {
    const found = await navigator.getBattery();
    return { percent: Math.round(found.level * 100), charging: found.charging };
  } catch {
    return { percent: null, charging: null };
  }
}

function base64(logits) {
  const values = new Float32Array(logits.length * logits[0].length);
  logits.forEach((row, index) => values.set(row, index * row.length));
  const bytes = new Uint8Array(values.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 2 ** 15) text += String.fromCharCode(...bytes.subarray(i, i + 2 ** 15));
  return btoa(text);
}

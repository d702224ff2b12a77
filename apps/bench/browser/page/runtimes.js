// The two runtimes, each behind `open(bytes, ...) -> { run(image) -> Float32Array, close() }`.

const FOLDER = new URL("runtimes/", location.href).href;

/** What this browser offers each artifact: one entry per artifact and processor. */
export async function choices(artifacts) {
  const gpu = await adapter();
  const found = [];
  for (const artifact of artifacts) {
    found.push({ artifact, backend: "wasm" });
    if (gpu && runsOnGpu(artifact)) found.push({ artifact, backend: "webgpu" });
  }
  return { found, gpu };
}

// LiteRT.js needs promises inside WebAssembly (JSPI) for it, and computes INT8 files in floating point. ONNX Runtime's
// WebGPU provider opens no `.ort` file.
function runsOnGpu(artifact) {
  return artifact.runtime === "litert.js" && "Suspending" in WebAssembly;
}

async function adapter() {
  try {
    const found = await navigator.gpu?.requestAdapter();
    return found ? [found.info?.vendor, found.info?.architecture].filter(Boolean).join(" ") || "unnamed" : null;
  } catch {
    return null;
  }
}

/** Threads that a runtime will really use: LiteRT.js has one, and without isolation there is no shared memory. */
export function threadsOf(runtime, wanted) {
  return runtime === "onnxruntime-web" && crossOriginIsolated ? wanted : 1;
}

/** A model that is ready for its first image of height and width `shape`. */
export function openModel(runtime, bytes, options) {
  return runtime === "litert.js" ? openLiteRt(bytes, options) : openOrt(bytes, options);
}

/** The output that logits are had from: themselves, or else the probabilities. */
function scoresOf(names) {
  const found = ["logits", "probabilities"].find((name) => names.includes(name));
  if (found === undefined) throw new Error(`the model gives ${names.join(", ")}, not logits; make the bundle again`);
  return found;
}

/** Log-probabilities are the logits but for one number added to all of an image. */
function logitsFrom(name, scores) {
  return Float32Array.from(scores, name === "logits" ? (x) => x : (x) => Math.log(Math.max(x, 1.1754943508222875e-38)));
}

let variant = null;

/** The runtime itself; LiteRT.js in the build that a backend needs, of which a page holds one at a time. */
export async function prepare(runtime, backend) {
  if (runtime === "onnxruntime-web") return import("./runtimes/ort.wasm.bundle.min.mjs");
  const litert = await import("./runtimes/litert.js");
  if (variant !== null && variant !== backend) litert.unloadLiteRt();
  if (variant !== backend) await litert.loadLiteRt(FOLDER, { jspi: backend === "webgpu" });
  variant = backend;
  return litert;
}

async function openLiteRt(bytes, { backend, shape }) {
  const litert = await prepare("litert.js", backend);
  const model = await litert.loadAndCompile(bytes, { accelerator: backend });
  const scores = scoresOf(model.getOutputDetails().map((output) => output.name));
  return {
    async run(image) {
      const input = new litert.Tensor(image, [1, ...shape, 3]);
      const outputs = await model.run({ image: input });
      const output = outputs[scores];
      const host = backend === "wasm" ? output : await output.moveTo("wasm");
      const logits = logitsFrom(scores, host.toTypedArray());
      for (const tensor of new Set([...Object.values(outputs), host])) tensor.delete();
      input.delete();
      return logits;
    },
    close() { model.delete(); },
  };
}

async function openOrt(bytes, { backend, threads, shape }) {
  const ort = await prepare("onnxruntime-web", backend);
  ort.env.wasm.wasmPaths = FOLDER;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(bytes, {
    executionProviders: [backend],
    extra: { session: { qdqisint8allowed: "1" } },
  });
  const scores = scoresOf(session.outputNames);
  return {
    async run(image) {
      const outputs = await session.run({ image: new ort.Tensor("uint8", image, [1, ...shape, 3]) }, [scores]);
      return logitsFrom(scores, await outputs[scores].getData());
    },
    close() { return session.release(); },
  };
}

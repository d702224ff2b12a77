// ONNX Runtime for JavaScript at its defaults: node onnx_runtime.mjs PACKAGE MODEL IMAGES, where PACKAGE is the file of
// onnxruntime-node or onnxruntime-web, and IMAGES holds {"type", "dims", "count", "file"} of raw numbers.
// Every image by itself; prints the outputs by name, one list for each image.
import { readFile } from "node:fs/promises";

const [entry, model, images] = process.argv.slice(2);
const loaded = await import(entry);
const ort = loaded.InferenceSession ? loaded : loaded.default;
const given = JSON.parse(await readFile(images, "utf8"));
const content = await readFile(given.file);
const Numbers = given.type === "uint8" ? Uint8Array : Float32Array;
const all = new Numbers(content.buffer, content.byteOffset, content.byteLength / Numbers.BYTES_PER_ELEMENT);
const session = await ort.InferenceSession.create(new Uint8Array(await readFile(model)));
const each = all.length / given.count;
const found = Object.fromEntries(session.outputNames.map((name) => [name, []]));
for (let index = 0; index < given.count; index += 1) {
  const pixels = new ort.Tensor(given.type, all.slice(index * each, (index + 1) * each), given.dims);
  const outputs = await session.run({ [session.inputNames[0]]: pixels });
  for (const name of session.outputNames) found[name].push(Array.from(outputs[name].data));
}
process.stdout.write(JSON.stringify(found));

// The bundle's files, and what the page is told of them.

const KINDS = { "|u1": Uint8Array, "<i8": BigInt64Array };

/** JSON to the server; what it refuses is an error with its own words. */
export async function send(name, value) {
  const answer = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

/** A file below the page's address, as an ArrayBuffer. */
export async function load(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status})`);
  return answer.arrayBuffer();
}

/** Settings of this page's server; the first browser that asks gets them. */
export async function settings() {
  await send("session", {});
  return JSON.parse(new TextDecoder().decode(await load("run.json")));
}

/** Images as one Uint8Array [S, S, 3] each, and their labels as numbers. */
export async function samples({ batches, images, shape: [height, width] }) {
  const found = [];
  for (const name of batches) {
    if (found.length >= images) break;
    const { shape, data } = readNpy(await load(`bundle/${name}`));
    const length = height * width * 3;
    for (let i = 0; i < shape[0] && found.length < images; i++) found.push(data.slice(i * length, (i + 1) * length));
  }
  const labels = readNpy(await load("bundle/labels.npy")).data;
  return { images: found, labels: Array.from(labels.slice(0, images), Number) };
}

/** An array of numpy's format, version 1: shape, and its values in C order. */
export function readNpy(buffer) {
  const start = 10 + new DataView(buffer).getUint16(8, true);
  const head = new TextDecoder().decode(new Uint8Array(buffer, 10, start - 10));
  const kind = KINDS[/'descr': '([^']+)'/.exec(head)[1]];
  const shape = /'shape': \(([^)]*)\)/.exec(head)[1].split(",").filter((part) => part.trim()).map(Number);
  return { shape, data: new kind(buffer.slice(start)) };
}

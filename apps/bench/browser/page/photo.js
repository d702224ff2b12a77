// A photo as the network's input: Pillow's resize, so that the same pixels give the same answer as on the desktop.

const KERNELS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const [a, t] = [-0.5, Math.abs(x)];
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** Pixels of an image file, turned as it wants to be seen: { width, height, data } in RGBA. */
export async function readPhoto(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  // A transparent background would be black; Pillow's conversion to RGB keeps what lies below instead.
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/**
 * Uint8Array [S, S, 3]: the short side resized, the middle cut out. Rows first, then columns, each rounded to bytes;
 * Pillow 13 turns the order round for some sizes, which moves values by the roundings between.
 */
export function toInput({ width, height, data }, { size, resize }) {
  const long = Math.floor((resize.short_side * Math.max(width, height)) / Math.min(width, height));
  const [w, h] = width <= height ? [resize.short_side, long] : [long, resize.short_side];
  const left = halfEven((w - size) / 2);
  const top = halfEven((h - size) / 2);
  const kernel = KERNELS[resize.interpolation];
  if (!kernel) return nearest({ width, height, data }, { w, h, left, top, size });
  const across = weights(width, w, kernel, left, size);
  const down = weights(height, h, kernel, top, size);
  const rows = new Uint8ClampedArray(height * size * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < size; x++) {
      const { first, factors } = across[x];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < factors.length; k++) sum += factors[k] * data[(y * width + first + k) * 4 + c];
        rows[(y * size + x) * 3 + c] = Math.floor(sum + 0.5);
      }
    }
  }
  const input = new Uint8ClampedArray(size * size * 3);
  for (let y = 0; y < size; y++) {
    const { first, factors } = down[y];
    for (let i = 0; i < size * 3; i++) {
      let sum = 0;
      for (let k = 0; k < factors.length; k++) sum += factors[k] * rows[(first + k) * size * 3 + i];
      input[y * size * 3 + i] = Math.floor(sum + 0.5);
    }
  }
  return new Uint8Array(input.buffer);
}

/** For `count` output positions from `offset` on: where their inputs begin, and how each counts. */
function weights(from, to, { support, weight }, offset, count) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: count }, (_, position) => {
    const centre = (position + offset + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support * stretch + 0.5));
    const end = Math.min(from, Math.floor(centre + support * stretch + 0.5));
    const factors = Array.from({ length: end - first }, (_, k) => weight((first + k - centre + 0.5) / stretch));
    const sum = factors.reduce((a, b) => a + b, 0);
    return { first, factors: factors.map((factor) => factor / sum) };
  });
}

function nearest({ width, height, data }, { w, h, left, top, size }) {
  const input = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const from = Math.floor(((top + y + 0.5) * height) / h) * width + Math.floor(((left + x + 0.5) * width) / w);
      for (let c = 0; c < 3; c++) input[(y * size + x) * 3 + c] = data[from * 4 + c];
    }
  }
  return input;
}

function halfEven(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (down % 2) : Math.round(x);
}

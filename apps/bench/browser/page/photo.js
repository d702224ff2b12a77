// A photo as the network's input: Pillow's resize, so that the same pixels give the same answer as on the desktop.

const KERNELS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0) },
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
 * Uint8Array [H, W, 3]: resized as the crop mode says, the middle cut out, with a border where the image is smaller.
 * Rows first, then columns, each rounded to bytes; Pillow 13 turns the order round for some sizes, which moves values
 * by the roundings between.
 */
export function toInput({ width, height, data }, { shape: [inputHeight, inputWidth], resize }) {
  const [w, h] = resized(width, height, resize);
  const kernel = KERNELS[resize.interpolation];
  const x = window(w, inputWidth);
  const y = window(h, inputHeight);
  const view = kernel ? smooth({ width, height, data }, { w, h, x, y }, kernel) : nearest({ width, height, data }, { w, h, x, y });
  const input = new Uint8Array(inputHeight * inputWidth * 3);
  for (let i = 0; i < input.length; i++) input[i] = resize.border[i % 3];
  for (let row = 0; row < y.count; row++) {
    input.set(view.subarray(row * x.count * 3, (row + 1) * x.count * 3), ((row + y.at) * inputWidth + x.at) * 3);
  }
  return input;
}

/** Width and height before cropping. */
function resized(width, height, { mode, to: [down, across] }) {
  if (mode === "squash") return [across, down];
  if (mode === "center" && across === down) {
    const long = Math.floor((across * Math.max(width, height)) / Math.min(width, height));
    return width <= height ? [across, long] : [long, across];
  }
  const fit = mode === "border" ? Math.max : Math.min;
  const ratio = fit(height / down, width / across);
  return [halfEven(width / ratio), halfEven(height / ratio)];
}

/** What is seen of `length` pixels: `count` from `first` on, `at` which place of the `size` pixels of the input. */
function window(length, size) {
  if (length < size) return { first: 0, count: length, at: Math.floor((size - length) / 2) };
  return { first: halfEven((length - size) / 2), count: size, at: 0 };
}

function smooth({ width, height, data }, { w, h, x, y }, kernel) {
  const across = weights(width, w, kernel, x);
  const down = weights(height, h, kernel, y);
  const rows = new Uint8ClampedArray(height * x.count * 3);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < x.count; column++) {
      const { first, factors } = across[column];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < factors.length; k++) sum += factors[k] * data[(row * width + first + k) * 4 + c];
        rows[(row * x.count + column) * 3 + c] = Math.floor(sum + 0.5);
      }
    }
  }
  const view = new Uint8ClampedArray(y.count * x.count * 3);
  for (let row = 0; row < y.count; row++) {
    const { first, factors } = down[row];
    for (let i = 0; i < x.count * 3; i++) {
      let sum = 0;
      for (let k = 0; k < factors.length; k++) sum += factors[k] * rows[(first + k) * x.count * 3 + i];
      view[row * x.count * 3 + i] = Math.floor(sum + 0.5);
    }
  }
  return view;
}

/** For `count` output positions from `offset` on: where their inputs begin, and how each counts. */
function weights(from, to, { support, weight }, { first: offset, count }) {
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

function nearest({ width, height, data }, { w, h, x, y }) {
  const view = new Uint8Array(y.count * x.count * 3);
  const across = places(width, w);
  const down = places(height, h);
  for (let row = 0; row < y.count; row++) {
    for (let column = 0; column < x.count; column++) {
      const from = down[y.first + row] * width + across[x.first + column];
      for (let c = 0; c < 3; c++) view[(row * x.count + column) * 3 + c] = data[from * 4 + c];
    }
  }
  return view;
}

/** Where `to` pixels are taken from: added up as Pillow does, whose sums fall on either side of a whole number. */
function places(from, to) {
  const step = from / to;
  let at = step * 0.5;
  return Array.from({ length: to }, () => {
    const place = Math.floor(at);
    at += step;
    return Math.min(place, from - 1);
  });
}

function halfEven(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (down % 2) : Math.round(x);
}

"use strict";
// Pillow's resize of 8-bit RGB pixels, bit for bit: two passes of fixed-point weights.
// A picture is read in strips, because phones limit the area of a canvas.

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      x = Math.abs(x);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
};
const ONE = 2 ** 22; // the fixed-point weight 1
const STRIP = 2 ** 20; // pixels that are read at once

// For each new pixel, the first old pixel and the weights of the old pixels.
function resizeWeights(oldSize, newSize, filter) {
  if (oldSize === newSize) {
    return Array.from({ length: newSize }, (_, first) => ({ first, weights: [ONE] }));
  }
  const scale = oldSize / newSize;
  const stretch = Math.max(scale, 1);
  const reach = filter.support * stretch;
  return Array.from({ length: newSize }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(oldSize, Math.trunc(center + reach + 0.5));
    const raw = [];
    for (let x = first; x < end; x++) {
      raw.push(filter.weight((x - center + 0.5) * (1 / stretch)));
    }
    const sum = raw.reduce((a, b) => a + b, 0);
    const weights = raw.map((w) => {
      const fixed = (w / sum) * ONE;
      return Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    });
    return { first, weights };
  });
}

// The weighted sum of values of `from` with a distance of `step`, rounded to 8 bits.
function weighted(from, start, step, weights) {
  let sum = ONE / 2;
  for (let i = 0; i < weights.length; i++) sum += from[start + i * step] * weights[i];
  return byte(sum);
}

function byte(sum) {
  return Math.min(255, Math.max(0, Math.floor(sum / ONE)));
}

// Python's rounding: to the nearest even number if two are as near.
function roundHalfEven(x) {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x);
}

// The size that a picture is resized to, and the corner of the part that is kept.
function place(width, height, net) {
  if (!net.shorter) return { width: net.width, height: net.height, left: 0, top: 0 };
  const shorter = Math.min(width, height);
  const across = Math.floor((width * net.shorter) / shorter);
  const down = Math.floor((height * net.shorter) / shorter);
  return {
    width: across,
    height: down,
    left: roundHalfEven((across - net.width) / 2),
    top: roundHalfEven((down - net.height) / 2),
  };
}

// RGB bytes (net.height, net.width, 3) of a picture.
// `rows(y, count)` returns `count` rows of RGBA bytes of the picture, without transparency.
function resizeTo(net, width, height, rows) {
  const target = place(width, height, net);
  const filter = FILTERS[net.interpolation];
  const across = resizeWeights(width, target.width, filter)
    .slice(target.left, target.left + net.width);
  const down = resizeWeights(height, target.height, filter)
    .slice(target.top, target.top + net.height);
  // The order of Pillow 13. Older releases never begin with the columns of a tall picture.
  const tall = target.height < height && height - target.height > 2 * (width - target.width);
  return tall
    ? resizeAcross(resizeDownStrips(width, rows, down), width, 3, down.length, across)
    : resizeAcrossStrips(width, rows, across, down);
}

// The pass along rows: bytes of `step` values a pixel become RGB bytes.
function resizeAcross(pixels, width, step, count, across) {
  const narrow = new Uint8Array(count * across.length * 3);
  let at = 0;
  for (let y = 0; y < count; y++) {
    for (const { first, weights } of across) {
      const start = (y * width + first) * step;
      for (let c = 0; c < 3; c++) narrow[at++] = weighted(pixels, start + c, step, weights);
    }
  }
  return narrow;
}

// Calls `use(pixels, y, count)` for strips of the rows that `down` needs.
function forStrips(width, rows, down, use) {
  const last = down[down.length - 1];
  const end = last.first + last.weights.length;
  const most = stripHeight(width);
  for (let y = down[0].first; y < end; y += most) {
    const count = Math.min(most, end - y);
    use(rows(y, count), y, count);
  }
}

function stripHeight(width) {
  return Math.max(1, Math.floor(STRIP / width));
}

// Both passes, that along rows first.
function resizeAcrossStrips(width, rows, across, down) {
  const line = across.length * 3;
  const last = down[down.length - 1];
  const narrow = new Uint8Array((last.first + last.weights.length) * line);
  forStrips(width, rows, down, (pixels, y, count) => {
    narrow.set(resizeAcross(pixels, width, 4, count, across), y * line);
  });
  const small = new Uint8Array(down.length * line);
  down.forEach(({ first, weights }, y) => {
    for (let i = 0; i < line; i++) {
      small[y * line + i] = weighted(narrow, first * line + i, line, weights);
    }
  });
  return small;
}

// The pass along columns alone: RGB bytes.
function resizeDownStrips(width, rows, down) {
  const sums = new Float64Array(down.length * width * 3).fill(ONE / 2);
  forStrips(width, rows, down, (pixels, y, count) => {
    down.forEach(({ first, weights }, row) => {
      for (let k = Math.max(first, y); k < Math.min(first + weights.length, y + count); k++) {
        for (let x = 0; x < width; x++) {
          for (let c = 0; c < 3; c++) {
            sums[(row * width + x) * 3 + c] +=
              pixels[((k - y) * width + x) * 4 + c] * weights[k - first];
          }
        }
      }
    });
  });
  return Uint8Array.from(sums, byte);
}

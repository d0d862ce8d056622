"use strict";

const MAX_PIXELS = 50e6;
const TOP = 5;
const element = (id) => document.getElementById(id);

// A sentence for the person at the page. Other errors are faults of the page or the browser.
class Refusal extends Error {}

function say(sentence) {
  element("message").textContent = sentence;
}

// A file of the folder or of the engine, checked against its digest.
async function load({ url, integrity }) {
  let response;
  try {
    response = await fetch(url, { integrity, cache: "no-cache" });
  } catch {
    throw new Refusal(`${url} cannot be loaded, or is not the file that was exported.`);
  }
  if (!response.ok) throw new Refusal(`${url} cannot be loaded (status ${response.status}).`);
  return response;
}

async function openNet() {
  const net = await (await load({ url: "model.json" })).json();
  const [script, wasm, model] = await Promise.all(
    [net.engine.script, net.engine.wasm, net.model].map(async (file) =>
      (await load(file)).arrayBuffer()));
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.numThreads = 1; // threads need headers that a plain server does not send
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { wasm: new URL(net.engine.wasm.url, location.href).href };
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  net.run = async (rgb) => {
    const image = new ort.Tensor("float32", Float32Array.from(rgb), [1, net.height, net.width, 3]);
    const outputs = await session.run({ [session.inputNames[0]]: image });
    return Array.from(outputs[session.outputNames[0]].data);
  };
  await net.run(new Uint8Array(net.height * net.width * 3)); // the first call is slow
  return net;
}

// A canvas for reading pixels, of which a browser may allow only false ones.
function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.imageSmoothingEnabled = false;
  return context;
}

function checkPixels() {
  const context = canvasOf(8, 8);
  context.fillStyle = "rgb(200 100 50)";
  context.fillRect(0, 0, 8, 8);
  const { data } = context.getImageData(0, 0, 8, 8);
  if (data.some((value, i) => Math.abs(value - [200, 100, 50, 255][i % 4]) > 2)) {
    throw new Refusal("This browser hides the pixels of pictures from pages, as a protection " +
      "against tracking; allow this page to read them.");
  }
}

// The bytes of a bitmap at the size of the net; transparent pixels are blended with white.
function shrink(net, bitmap) {
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new Refusal(`The picture has ${(width * height).toLocaleString("en")} pixels; ` +
      `at most ${MAX_PIXELS.toLocaleString("en")} are read.`);
  }
  checkPixels();
  const context = canvasOf(width, Math.min(height, stripHeight(width)));
  return resizeTo(net, width, height, (y, count) => {
    context.fillStyle = "white";
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, y, width, count, 0, 0, width, count);
    return context.getImageData(0, 0, width, count).data;
  });
}

// The orientation in the EXIF data of a WebP file, 1 to 8; 1 if the file does not say it.
function webpOrientation(bytes) {
  for (let at = 12; at + 8 <= bytes.byteLength;) {
    const size = bytes.getUint32(at + 4, true);
    if (bytes.getUint32(at) === 0x45584946) { // "EXIF"
      const start = at + 8 + (bytes.getUint32(at + 8) === 0x45786966 ? 6 : 0); // after "Exif"
      const little = bytes.getUint8(start) === 0x49;
      const table = start + bytes.getUint32(start + 4, little);
      for (let i = bytes.getUint16(table, little) - 1; i >= 0; i--) {
        const entry = table + 2 + 12 * i;
        if (bytes.getUint16(entry, little) === 0x112) return bytes.getUint16(entry + 8, little);
      }
    }
    at += 8 + size + (size % 2);
  }
  return 1;
}

async function open(file) {
  const start = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  if (String.fromCharCode(...start.slice(1, 4)) === "PNG" && start[24] === 16) {
    throw new Refusal(`${file.name} has 16 bits a value; save it with 8 bits.`);
  }
  if (String.fromCharCode(...start.slice(8, 12)) === "WEBP" &&
      webpOrientation(new DataView(await file.arrayBuffer())) > 1) {
    throw new Refusal(`${file.name} has an EXIF orientation, which browsers may ignore in a WebP ` +
      "file; save it as JPEG.");
  }
  try {
    return await createImageBitmap(file, {
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
      colorSpaceConversion: "none",
    });
  } catch {
    throw new Refusal(`${file.name} cannot be read as a picture; choose a PNG, JPEG or WebP file.`);
  }
}

function probabilities(net, outputs) {
  if (outputs.some(Number.isNaN)) throw new Refusal("The net puts out NaN for this picture.");
  if (net.probabilities) return outputs;
  const largest = Math.max(...outputs);
  const powers = outputs.map((x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

function draw(net, rgb) {
  const canvas = element("seen");
  [canvas.width, canvas.height] = [net.width, net.height];
  const pixels = new ImageData(net.width, net.height);
  rgb.forEach((value, i) => { pixels.data[Math.floor(i / 3) * 4 + (i % 3)] = value; });
  for (let i = 3; i < pixels.data.length; i += 4) pixels.data[i] = 255;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  element("caption").textContent = `What the net sees: ${net.width} x ${net.height} pixels`;
}

function list(net, shares) {
  const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]).slice(0, TOP);
  element("top").replaceChildren(...order.map((index) => {
    const [item, bar] = ["li", "div"].map((tag) => document.createElement(tag));
    const [name, share] = ["span", "span"].map((tag) => document.createElement(tag));
    name.textContent = net.classes[index];
    share.textContent = `${(100 * shares[index]).toFixed(1)}%`;
    bar.style.width = `${100 * shares[index]}%`;
    Object.assign(item.dataset, { index, probability: shares[index] });
    item.append(bar, name, " ", share);
    return item;
  }));
  return `most likely ${net.classes[order[0]]}, ${(100 * shares[order[0]]).toFixed(1)}%.`;
}

async function classify(net, name, read) {
  try {
    const began = performance.now();
    const bitmap = await read();
    const rgb = shrink(net, bitmap);
    if (bitmap.close) bitmap.close();
    const ready = performance.now();
    const shares = probabilities(net, await net.run(rgb));
    const done = performance.now();
    draw(net, rgb);
    const sentence = list(net, shares);
    element("times").textContent = `The net took ${(done - ready).toFixed(1)} ms, the reading and ` +
      `resizing of the picture ${(ready - began).toFixed(1)} ms.`;
    element("answer").hidden = false;
    say(`${name}: ${sentence}`);
  } catch (error) {
    element("answer").hidden = true;
    say(error instanceof Refusal ? error.message : `${name} cannot be classified (${error.message}).`);
  }
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    throw new Refusal("A browser gives the camera only to pages from https:// or localhost; " +
      "choose a picture in its place.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Refusal(error.name === "NotAllowedError"
      ? "The camera was not allowed; allow it in the settings of the browser, or choose a picture."
      : `The camera does not start (${error.name}); choose a picture in its place.`);
  }
  element("video").srcObject = stream;
  await element("video").play();
  element("camera").hidden = false;
  element("start").disabled = true;
  element("take").focus();
  say("The camera is on.");
}

function stopCamera() {
  for (const track of element("video").srcObject?.getTracks() ?? []) track.stop();
  element("video").srcObject = null;
  element("camera").hidden = true;
  element("start").disabled = false;
  element("start").focus();
}

function connect(net) {
  let queue = Promise.resolve(); // one picture after the other
  const add = (name, read) => { queue = queue.then(() => classify(net, name, read)); };
  const addFile = (file) => add(file.name, () => open(file));
  const file = element("file");
  file.addEventListener("change", () => {
    if (file.files.length) addFile(file.files[0]);
    file.value = ""; // the same file can be chosen again
  });
  const over = (event, is) => {
    event.preventDefault();
    document.querySelector("main").classList.toggle("over", is);
  };
  addEventListener("dragover", (event) => over(event, true));
  addEventListener("dragleave", (event) => over(event, false));
  addEventListener("drop", (event) => {
    over(event, false);
    if (event.dataTransfer.files.length) addFile(event.dataTransfer.files[0]);
    else say("What was dropped is not a file; save the picture as a file first.");
  });
  element("start").addEventListener("click", () => {
    startCamera().catch((error) => say(error.message));
  });
  element("take").addEventListener("click", () => {
    add("The picture of the camera", () => createImageBitmap(element("video")));
  });
  element("stop").addEventListener("click", () => { stopCamera(); say("The camera is off."); });
  element("file").disabled = element("start").disabled = false;
  say("Ready.");
}

if (location.protocol === "file:") {
  say("A browser runs this page only from a web server: " +
    "python -m http.server --directory FOLDER, then http://localhost:8000.");
} else {
  openNet().then(connect).catch((error) => say(error instanceof Refusal
    ? error.message : `The net cannot be loaded in this browser (${error.message}).`));
}

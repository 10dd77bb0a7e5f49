// Runs a model on stored inputs in onnxruntime-node or onnxruntime-web (wasm), as
//   node run_in_node.mjs RUNTIME FOLDER MODEL.onnx INPUTS.json OUTPUTS.json
// FOLDER is where `npm install` put the package. Arrays travel as base64 of their bytes.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const TIMED_RUNS = 20;
const ARRAYS = { float32: Float32Array, int64: BigInt64Array };
const [runtime, folder, model, inputs, outputs] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const ort = require(runtime);
const about = join(folder, "node_modules", runtime, "package.json");
const { version } = JSON.parse(readFileSync(about));
if (runtime === "onnxruntime-web") ort.env.wasm.numThreads = 1;

const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };
if (runtime === "onnxruntime-web") options.executionProviders = ["wasm"];
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)), options);

function tensor({ type, shape, bytes }, rows) {
  const raw = Buffer.from(bytes, "base64");
  const whole = new ARRAYS[type](new Uint8Array(raw).buffer);
  const kept = whole.slice(0, (whole.length / shape[0]) * rows);
  return new ort.Tensor(type, kept, [rows, ...shape.slice(1)]);
}

const stored = Object.entries(JSON.parse(readFileSync(inputs)));
const feeds = (rows) => Object.fromEntries(stored.map(([n, a]) => [n, tensor(a, rows ?? a.shape[0])]));
const told = ({ logits }) => ({ shape: logits.dims, values: Array.from(logits.data) });
const logits = told(await session.run(feeds()));
const alone = told(await session.run(feeds(1)));
const milliseconds = [];
for (let i = 0; i < TIMED_RUNS; i++) {
  const first = feeds(1);
  const started = performance.now();
  await session.run(first);
  milliseconds.push(performance.now() - started);
}
writeFileSync(outputs, JSON.stringify({ version, milliseconds, logits, alone }));
process.exit(0);

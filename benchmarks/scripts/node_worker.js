// The worker of worker.py in node: WebAssembly as V8 runs it. One line of JSON each way.
'use strict';

const fs = require('fs');
const readline = require('readline');

let run = null;

function answer(request) {
  if ('load' in request) {
    run = null;
    const start = process.hrtime.bigint();
    const module = new WebAssembly.Module(fs.readFileSync(request.load));
    run = new WebAssembly.Instance(module, {}).exports.run;
    return { s: Number(process.hrtime.bigint() - start) / 1e9 };
  }
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const value = run(request.run);
  const wall = process.hrtime.bigint() - start;
  const used = process.cpuUsage(cpu);
  return {
    value: String(value),
    wall_s: Number(wall) / 1e9,
    cpu_s: (used.user + used.system) / 1e6,
  };
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  let reply;
  try {
    reply = answer(JSON.parse(line));
  } catch (error) {
    reply = { error: String(error.message || error) };
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
});

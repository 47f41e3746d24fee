// Runs a WASI command in node, as `wasinn run` does. Usage: node node_wasi.js APP.wasm [ARGS...]
'use strict';

const fs = require('fs');
const { WASI } = require('node:wasi');

const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2), env: {} });
const app = new WebAssembly.Module(fs.readFileSync(process.argv[2]));
wasi.start(new WebAssembly.Instance(app, wasi.getImportObject()));

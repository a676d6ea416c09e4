#!/usr/bin/env node
// Makes a component of a core module: node component.mjs core.wasm -o filter.wasm --wit ../../wit/0.1.0
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const WORLD = "filter-http";
const options = { output: { type: "string", short: "o" }, wit: { type: "string" }, modules: { type: "string", default: "." } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
if (positionals.length !== 1 || !values.output || !values.wit) {
  console.error("usage: node component.mjs core.wasm -o filter.wasm --wit FOLDER [--modules FOLDER-OF-node_modules]");
  process.exit(2);
}
const near = createRequire(resolve(values.modules, "package.json"));
const tools = await import(pathToFileURL(near.resolve("@bytecodealliance/jco-transpile/wasm-tools")));
const refused = (error) => {
  console.error(`${positionals[0]} is no filter: ${error.payload ?? error.message}`);
  process.exit(1);
};
// The component names those imports of the world that the module uses.
const typed = await tools
  .componentEmbed({
    binary: new Uint8Array(readFileSync(positionals[0])),
    witSource: readFileSync(join(values.wit, "filter.wit"), "utf8"),
    world: WORLD,
    stringEncoding: "utf8",
  })
  .catch(refused);
const component = await tools.componentNew(typed, []).catch(refused);
mkdirSync(dirname(values.output), { recursive: true });
writeFileSync(`${values.output}.part`, component);
renameSync(`${values.output}.part`, values.output);

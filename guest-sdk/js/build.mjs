#!/usr/bin/env node
// Makes a component of a filter: wsgate-build src/filter.js [-o dist/NAME.wasm] [--small]
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { componentize } from "componentize-qjs";

const HTTP_CLIENT = "wsgate:filter/http-client";

function fail(text) {
  console.error(`wsgate-build: ${text}`);
  process.exit(1);
}

// The contract lies beside the SDK, in this repository and where `wsgate filter new` copies it to.
function contract() {
  const here = dirname(fileURLToPath(import.meta.url));
  const places = [join(here, "../wit/0.1.0"), join(here, "../../wit/0.1.0")];
  return places.find((place) => existsSync(place)) ?? fail(`the contract is in none of ${places.join(", ")}`);
}

async function build(root, entry, world, small) {
  const jsSource = `import { component } from "wsgate";
import * as filter from "./${relative(root, entry).replaceAll("\\", "/")}";
export const handler = component(filter);
`;
  const options = { witPath: contract(), jsSource, jsPath: join(root, "package.json"), moduleRoot: root, world };
  return (await componentize({ ...options, sync: true, optSize: small })).component;
}

const { values, positionals } = parseArgs({
  options: { output: { type: "string", short: "o" }, small: { type: "boolean", default: false } },
  allowPositionals: true,
});
if (positionals.length !== 1) fail("expected one file: wsgate-build src/filter.js [-o dist/NAME.wasm] [--small]");
const root = process.cwd();
const entry = resolve(positionals[0]);
if (!existsSync(entry)) fail(`${positionals[0]} does not exist`);
if (!existsSync(join(root, "package.json"))) fail("run it in the folder of package.json");
const { name } = JSON.parse(readFileSync("package.json", "utf8"));
const output = values.output ?? join("dist", `${name}.wasm`);

// Only a filter that imports "wsgate/http" has the world that can call out.
const component = await build(root, entry, "filter", values.small).catch((error) => {
  if (!error.message.includes(HTTP_CLIENT)) fail(error.message);
  return build(root, entry, "filter-http", values.small).catch((again) => fail(again.message));
});
mkdirSync(dirname(output), { recursive: true });
// By rename: a gateway that watches the folder never sees half a file.
writeFileSync(`${output}.part`, component);
renameSync(`${output}.part`, output);
console.log(`${output}: ${Math.round(component.length / 1024)} KiB`);

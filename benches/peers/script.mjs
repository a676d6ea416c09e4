// The scripted case, the same for every JavaScript peer: parse, require a field, add a field, print.
// A message without the field ends its connection with 1008.

export class Refused extends Error {}

export function transform(text) {
  const message = JSON.parse(text);
  if (typeof message.user !== "string") throw new Refused("user is missing");
  message.via = "gateway";
  return JSON.stringify(message);
}

/** PORT, UPSTREAM_PORT and "json" or nothing, from the command line. */
export function settings() {
  const [port, upstreamPort, script] = process.argv.slice(2);
  return { port: Number(port), upstream: `ws://127.0.0.1:${upstreamPort}/`, scripted: script === "json" };
}

// What filters in JavaScript are written with: one module, no dependencies. `wsgate.d.ts` documents what it exports.
import clockHost from "wsgate:filter/clock@0.1.0";
import keyValueHost from "wsgate:filter/key-value@0.1.0";
import loggingHost from "wsgate:filter/logging@0.1.0";
import messagingHost from "wsgate:filter/messaging@0.1.0";
import metricsHost from "wsgate:filter/metrics@0.1.0";

// ---- Text and bytes. The engine has neither TextEncoder nor TextDecoder.

const PIECE_CODE_UNITS = 4096; // As many arguments as a call may have.

class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    text = wellFormed(String(text));
    const bytes = new Uint8Array(text.length * 3);
    let end = 0;
    for (let i = 0; i < text.length; i++) {
      let c = text.charCodeAt(i);
      if (c < 0x80) {
        bytes[end++] = c;
        continue;
      }
      if (c < 0x800) {
        bytes[end++] = 0xc0 | (c >> 6);
      } else {
        if (c >= 0xd800 && c < 0xdc00) {
          c = 0x10000 + ((c & 0x3ff) << 10) + (text.charCodeAt(++i) & 0x3ff);
          bytes[end++] = 0xf0 | (c >> 18);
          bytes[end++] = 0x80 | ((c >> 12) & 0x3f);
        } else {
          bytes[end++] = 0xe0 | (c >> 12);
        }
        bytes[end++] = 0x80 | ((c >> 6) & 0x3f);
      }
      bytes[end++] = 0x80 | (c & 0x3f);
    }
    return bytes.slice(0, end);
  }
}

class TextDecoder {
  #fatal;
  #ignoreBOM;

  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^\s*utf-?8\s*$/i.test(label)) throw new RangeError(`the encoding ${label} is not supported: only utf-8 is`);
    this.#fatal = Boolean(fatal);
    this.#ignoreBOM = Boolean(ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#ignoreBOM;
  }

  decode(input = new Uint8Array(), { stream = false } = {}) {
    if (stream) throw new TypeError("decode: { stream: true } is not supported");
    const bytes = asBytes(input);
    if (bytes === undefined) throw new TypeError("decode: expected an ArrayBuffer or a view of one");
    const bom = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
    return decodeUtf8(bytes, bom && !this.#ignoreBOM ? 3 : 0, this.#fatal);
  }
}

// As https://encoding.spec.whatwg.org/#utf-8-decoder says: each maximal part that cannot be valid becomes one U+FFFD.
function decodeUtf8(bytes, start, fatal) {
  let text = "";
  let units = [];
  const wrong = () => {
    if (fatal) throw new TypeError("decode: the bytes are not valid UTF-8");
    units.push(0xfffd);
  };
  for (let i = start; i < bytes.length; ) {
    if (units.length >= PIECE_CODE_UNITS) {
      text += String.fromCharCode.apply(null, units);
      units = [];
    }
    const first = bytes[i++];
    if (first < 0x80) {
      units.push(first);
      continue;
    }
    const more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    if (more === 0) {
      wrong();
      continue;
    }
    let c = first & (0x3f >> more);
    let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    let read = 0;
    for (; read < more && bytes[i] >= low && bytes[i] <= high; read++, low = 0x80, high = 0xbf) {
      c = (c << 6) | (bytes[i++] & 0x3f);
    }
    if (read < more) wrong();
    else if (c < 0x10000) units.push(c);
    else units.push(0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
  }
  return text + String.fromCharCode.apply(null, units);
}

function wellFormed(text) {
  return text.isWellFormed() ? text : text.toWellFormed();
}

function asBytes(value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return undefined;
}

const encode = (text) => new TextEncoder().encode(text);
const decode = (bytes) => decodeUtf8(bytes, 0, false);

// Strings become UTF-8.
function bytesOf(value, what) {
  if (typeof value === "string") return encode(value);
  const bytes = asBytes(value);
  if (bytes === undefined) throw new TypeError(`${what}: expected a string or bytes, got ${show(value)}`);
  return bytes;
}

// ---- Errors and logs.

/** An import of the gateway failed; `kind` is the contract's word for why, such as "denied". */
export class HostError extends Error {
  constructor(call, thrown) {
    // The engine wraps the error of an import in an Error.
    const error = thrown?.payload ?? thrown;
    const kind = typeof error === "string" ? error : (error?.tag ?? "failed");
    const detail = error instanceof Error ? error.message : error?.val;
    super(detail ? `${call}: ${kind}: ${detail}` : `${call}: ${kind}`);
    this.name = "HostError";
    this.kind = kind;
  }
}

/** Calls the gateway; what it throws becomes a `HostError`. */
export function hostCall(name, call) {
  try {
    return call();
  } catch (error) {
    throw new HostError(name, error);
  }
}

// A value as a short piece of a message.
function show(value) {
  if (value === undefined || typeof value === "function" || typeof value === "symbol") return String(typeof value);
  if (typeof value === "string" || value === null || typeof value !== "object") {
    const text = typeof value === "string" ? JSON.stringify(value) : String(value);
    return text.length > 60 ? `${text.slice(0, 60)}…` : text;
  }
  const name = value.constructor?.name ?? "Object";
  return Array.isArray(value) ? "a list" : name === "Object" ? "an object" : `a ${name}`;
}

// `    at name (/filter.js:3:5)`: the first frame that is not this module's.
function place(error) {
  const frames = String(error.stack ?? "").split("\n").map((frame) => /\(?\/?([^()\s]+:\d+(?::\d+)?)\)?$/.exec(frame)?.[1]);
  const found = frames.find((frame) => frame && !/(^|\/)wsgate\.js:/.test(frame) && !frame.startsWith("native"));
  return found ? ` (${found})` : "";
}

// What the log shows of what a filter threw. An `Error` is a text for people; the others tell of a mistake in the code.
function textOf(thrown) {
  if (!(thrown instanceof Error)) return wellFormed(typeof thrown === "string" ? thrown : inspect(thrown));
  if (thrown.name === "Error") return wellFormed(thrown.message || "an error without a message");
  return wellFormed(`${thrown.name}: ${thrown.message}${place(thrown)}`);
}

function inspect(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack ?? ""}`.trimEnd();
  if (value instanceof Uint8Array) return `Uint8Array(${value.length}) [${Array.from(value.subarray(0, 32)).join(", ")}]`;
  if (value instanceof Map) return `Map ${inspect([...value])}`;
  if (value instanceof Set) return `Set ${inspect([...value])}`;
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}n` : inner));
  } catch {
    return show(value);
  }
}

const EARLY_LINES = 100;
// What the top level of a filter writes: there is no gateway yet while the component is made.
let early = [];

function write(level, message, fields) {
  if (early !== undefined) {
    if (early.length < EARLY_LINES) early.push([level, message, fields]);
  } else if (loggingHost.enabled(level)) {
    loggingHost.log(level, wellFormed(inspect(message)), pairs(fields ?? {}));
  }
}

/** Lines in the gateway's log. */
export const log = {
  enabled: (level) => loggingHost.enabled(level),
  trace: (message, fields) => write("trace", message, fields),
  debug: (message, fields) => write("debug", message, fields),
  info: (message, fields) => write("info", message, fields),
  warn: (message, fields) => write("warn", message, fields),
  error: (message, fields) => write("error", message, fields),
};

const line = (level) => (...values) => {
  if (early !== undefined || loggingHost.enabled(level)) write(level, values.map(inspect).join(" "));
};
const console = {
  trace: line("trace"),
  debug: line("debug"),
  log: line("info"),
  info: line("info"),
  warn: line("warn"),
  error: line("error"),
  assert: (condition, ...values) => condition || line("error")("assertion failed:", ...values),
};

/** Names why this call decided as it did. */
export const reason = (label) => loggingHost.reason(wellFormed(String(label)));

const pairs = (table) => Object.entries(table).map(([name, value]) => [wellFormed(name), wellFormed(inspect(value))]);

// ---- Verdicts and actions.

// A string is a text message, bytes are a binary one.
function message(value) {
  if (typeof value === "string") return { tag: "text", val: wellFormed(value) };
  const bytes = asBytes(value);
  if (bytes === undefined) throw new TypeError(`a message is a string or a Uint8Array, not ${show(value)}`);
  return { tag: "binary", val: bytes };
}

function closeInfo(code, why = "") {
  if (!Number.isInteger(code) || code < 0 || code > 65535) throw new RangeError(`${show(code)} is no close code`);
  return { code, reason: wellFormed(String(why)) };
}

const FORWARD = { tag: "forward" };
const DROP = { tag: "drop" };

export const forward = () => FORWARD;
export const drop = () => DROP;
export const replace = (value) => ({ tag: "replace", val: message(value) });
export const reply = (value) => ({ tag: "reply", val: message(value) });
export const close = (code, why) => ({ tag: "close", val: closeInfo(code, why) });
export const act = (...actions) => ({ tag: "act", val: listOfActions("act", actions.flat()) });
export const route = (upstream) => ({ tag: "route", val: wellFormed(String(upstream)) });
export const toClient = (value) => ({ tag: "to-client", val: message(value) });
export const toUpstream = (value) => ({ tag: "to-upstream", val: message(value) });
/** A value as the text of a message. */
export const json = (value) => {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`${show(value)} has no JSON`);
  return text;
};

const VERDICTS = ["forward", "replace", "drop", "reply", "close", "act", "route"];
const ACTIONS = ["to-client", "to-upstream", "close"];

function synchronous(hook, value) {
  if (typeof value?.then === "function") throw new TypeError(`${hook} returned a promise: hooks cannot be async`);
}

function verdictOf(hook, value) {
  if (value === undefined) return FORWARD;
  synchronous(hook, value);
  if (Array.isArray(value)) return act(value);
  if (!VERDICTS.includes(value?.tag)) throw new TypeError(`${hook} returned ${show(value)}, which is no verdict`);
  return value;
}

function listOfActions(hook, value) {
  if (value === undefined) return [];
  synchronous(hook, value);
  const actions = Array.isArray(value) ? value : [value];
  const wrong = actions.find((action) => !ACTIONS.includes(action?.tag));
  if (wrong !== undefined || actions.includes(undefined)) throw new TypeError(`${hook}: ${show(wrong)} is no action`);
  return actions;
}

// ---- Opening a connection.

function headerList(headers, what) {
  const list = Array.isArray(headers) ? headers : Object.entries(headers ?? {});
  return list.map(([name, value]) => ({ name: wellFormed(String(name)), value: bytesOf(value, `${what} ${name}`) }));
}

function edits({ set, append, remove = [] } = {}, what) {
  return { set: headerList(set, what), append: headerList(append, what), remove: remove.map(String) };
}

class Admission {
  constructor(connection, options) {
    this.connection = connection;
    this.options = options;
  }
}

class Refusal {
  constructor(status, body, headers) {
    if (!Number.isInteger(status) || status < 0 || status > 65535) throw new RangeError(`${show(status)} is no status`);
    const isJson = body !== undefined && typeof body !== "string" && asBytes(body) === undefined;
    this.status = status;
    this.headers = headerList(headers, "header");
    this.body = body === undefined ? new Uint8Array() : bytesOf(isJson ? json(body) : body, "body");
    const type = isJson ? "application/json" : typeof body === "string" ? "text/plain; charset=utf-8" : undefined;
    if (type !== undefined && !this.headers.some(({ name }) => name.toLowerCase() === "content-type")) {
      this.headers.push({ name: "content-type", value: encode(type) });
    }
  }
}

class KeepOld extends Error {}

export const admit = (connection, options = {}) => new Admission(connection, options);
export const refuse = (status, body, headers) => new Refusal(status, body, headers);
/** To be thrown by `resume`: the connection stays with the old generation. */
export const keepOld = (why) => new KeepOld(why);

class Identity {
  constructor(raw) {
    Object.assign(this, raw);
    this.claims = JSON.parse(raw.claims || "{}");
  }

  hasScope(scope) {
    return this.scopes.includes(scope);
  }
}

class Handshake {
  #raw;

  constructor(raw) {
    this.#raw = raw;
    const { connection, route, host, path, query, subprotocols, client, secure, clientCertificate } = raw;
    Object.assign(this, { connection, route, host, path, query, subprotocols, client, secure, clientCertificate });
    this.parameters = Object.fromEntries(raw.parameters);
    this.identity = raw.identity ? new Identity(raw.identity) : null;
  }

  /** All headers as `[name, bytes]`. */
  get headers() {
    return this.#raw.headers.map(({ name, value }) => [name, asBytes(value) ?? Uint8Array.from(value)]);
  }

  headerAll(name) {
    name = name.toLowerCase();
    return this.headers.filter(([header]) => header === name).map(([, value]) => decode(value));
  }

  header(name) {
    return this.headerAll(name)[0];
  }

  cookie(name) {
    const cookies = this.headerAll("cookie").flatMap((value) => value.split(";"));
    const found = cookies.map((part) => part.trim()).find((part) => part.startsWith(`${name}=`));
    return found?.slice(name.length + 1).replace(/^"(.*)"$/, "$1");
  }

  queryAll(name) {
    const parts = (this.query ?? "").split("&").filter((part) => part !== "").map((part) => {
      const at = part.indexOf("=");
      return at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
    });
    return parts.filter(([key]) => unescapeQuery(key) === name).map(([, value]) => unescapeQuery(value));
  }

  queryValue(name) {
    return this.queryAll(name)[0];
  }

  offersSubprotocol(name) {
    return this.subprotocols.includes(name);
  }
}

// Percent-encoding that makes no sense stays as it is.
function unescapeQuery(text) {
  const spaced = text.replaceAll("+", " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

// ---- Configuration.

const at = (path, key) => (path === "" ? key : `${path}.${key}`);
const wrongValue = (path, expected, value) => {
  throw new Error(`${path === "" ? "the configuration" : path}: expected ${expected}, got ${show(value)}`);
};

function kind(expected, accepts, options) {
  const read = (value, path) => (accepts(value) ? value : wrongValue(path, expected, value));
  return { read, ...options };
}

function range({ min = -Infinity, max = Infinity }) {
  const bounds = [min > -Infinity ? `at least ${min}` : "", max < Infinity ? `at most ${max}` : ""].filter(Boolean);
  return [bounds.length ? ` of ${bounds.join(" and ")}` : "", (value) => value >= min && value <= max];
}

function readTable(fields, value, path) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) wrongValue(path, "a table", value);
  const known = Object.keys(fields);
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    const expected = known.length ? `expected ${known.map((name) => `\`${name}\``).join(", ")}` : "there are none";
    throw new Error(`${at(path, key)}: unknown key, ${expected}`);
  }
  const table = {};
  for (const [key, field] of Object.entries(fields)) {
    if (value[key] !== undefined) table[key] = field.read(value[key], at(path, key));
    else if ("default" in field) table[key] = field.default;
    else if (!field.optional) throw new Error(`${at(path, key)}: missing`);
  }
  return table;
}

/** What a configuration may hold. Each takes `{ default }` or `{ optional: true }`. */
export const field = {
  string: (options = {}) => kind("a string", (value) => typeof value === "string", options),
  boolean: (options = {}) => kind("true or false", (value) => typeof value === "boolean", options),
  number: (options = {}) => {
    const [text, within] = range(options);
    return kind(`a number${text}`, (value) => typeof value === "number" && within(value), options);
  },
  integer: (options = {}) => {
    const [text, within] = range(options);
    return kind(`a whole number${text}`, (value) => Number.isSafeInteger(value) && within(value), options);
  },
  oneOf: (values, options = {}) => kind(`one of ${values.map(show).join(", ")}`, (value) => values.includes(value), options),
  list: (of, options = {}) => ({
    read: (value, path) => {
      if (!Array.isArray(value)) wrongValue(path, "a list", value);
      return value.map((item, index) => of.read(item, `${path}[${index}]`));
    },
    ...options,
  }),
  table: (fields, options = {}) => ({ read: (value, path) => readTable(fields, value, path), ...options }),
  map: (of, options = {}) => ({
    read: (value, path) => {
      if (typeof value !== "object" || value === null || Array.isArray(value)) wrongValue(path, "a table", value);
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, of.read(item, at(path, key))]));
    },
    ...options,
  }),
  any: (options = {}) => kind("a value", () => true, options),
  /** The same field, whose value `make` turns into another; what `make` throws gets the key before it. */
  to: (of, make) => ({
    ...of,
    read: (value, path) => {
      const read = of.read(value, path);
      try {
        return make(read);
      } catch (error) {
        throw new Error(`${path}: ${error?.message ?? error}`);
      }
    },
  }),
};

function readConfig(spec, text) {
  const table = JSON.parse(text === "" ? "{}" : text);
  if (typeof spec.config === "function") return spec.config(table);
  return spec.config === undefined ? table : readTable(spec.config, table, "");
}

// ---- The filter.

const HOOKS = ["onMessage", "onMessageToUpstream", "onMessageToClient", "onDelivery", "onTick", "onIdentity", "onClose", "save"];

// A class, or an object of hooks that has no `open`, has all its hooks before a connection is there.
function specOf(given) {
  if (typeof given === "function") {
    const open = given.open ? given.open.bind(given) : (handshake, config) => new given(handshake, config);
    const { config, interest, state } = given;
    return { open, config, interest, state, resume: given.resume?.bind(given), hooks: given.open ? undefined : given.prototype };
  }
  if (typeof given !== "object" || given === null) throw new TypeError(`a filter is a class or an object, not ${show(given)}`);
  const { config, interest, state, open, resume } = given;
  if (open) return { open: open.bind(given), config, interest, state, resume: resume?.bind(given) };
  if (!HOOKS.some((hook) => typeof given[hook] === "function")) {
    throw new TypeError(`a filter needs \`open\` or a hook: ${HOOKS.slice(0, -1).join(", ")}`);
  }
  const make = (handshake, settings) => Object.assign(Object.create(given), { handshake, config: settings });
  return { open: make, config, interest, state, hooks: given };
}

function interestOf(stated, hooks) {
  const { directions = "both", kinds = "both", tickMs = null } = stated ?? {};
  const has = (hook) => hooks === undefined || typeof hooks[hook] === "function";
  const asks = (value, one) => value === "both" || value === one;
  if (!["both", "to-upstream", "to-client"].includes(directions)) wrongValue("interest.directions", '"both", "to-upstream" or "to-client"', directions);
  if (!["both", "text", "binary"].includes(kinds)) wrongValue("interest.kinds", '"both", "text" or "binary"', kinds);
  if (tickMs !== null && !(Number.isInteger(tickMs) && tickMs > 0 && tickMs < 2 ** 32)) wrongValue("interest.tickMs", "whole milliseconds", tickMs);
  if (hooks !== undefined && has("onTick") && tickMs === null) throw new Error("onTick is never called without interest.tickMs");
  return {
    hooks: {
      toUpstream: asks(directions, "to-upstream") && (has("onMessage") || has("onMessageToUpstream")),
      toClient: asks(directions, "to-client") && (has("onMessage") || has("onMessageToClient")),
      delivery: has("onDelivery"),
      identity: has("onIdentity"),
      close: has("onClose"),
    },
    kinds: { text: asks(kinds, "text"), binary: asks(kinds, "binary") },
    tickMs: has("onTick") ? tickMs : null,
  };
}

let filterSpec;
let filterConfig;
let filterInterest;

const statedInterest = (options) => ({ ...filterInterest, ...options?.interest });

// None where it is that of `init`.
function connectionInterest(connection, options) {
  if (filterSpec.hooks !== undefined && options?.interest === undefined) return null;
  return interestOf(statedInterest(options), connection);
}

// One open connection.
class Session {
  #connection;

  constructor(connection) {
    this.#connection = connection;
  }

  onMessage(direction, { val }) {
    const connection = this.#connection;
    try {
      const own = direction === "to-upstream" ? "onMessageToUpstream" : "onMessageToClient";
      if (connection[own] !== undefined) return verdictOf(own, connection[own](val));
      if (connection.onMessage === undefined) return FORWARD;
      return verdictOf("onMessage", connection.onMessage(direction, val));
    } catch (error) {
      throw textOf(error);
    }
  }

  onDelivery(topic, { val }) {
    return answered(() => verdictOf("onDelivery", this.#connection.onDelivery?.(topic, val)));
  }

  onTick() {
    return answered(() => listOfActions("onTick", this.#connection.onTick?.()));
  }

  onIdentity(identity) {
    return answered(() => listOfActions("onIdentity", this.#connection.onIdentity?.(new Identity(identity))));
  }

  onClose(by, info) {
    logged("onClose", () => synchronous("onClose", this.#connection.onClose?.(by, info)));
  }

  save() {
    return logged("save", () => {
      const state = this.#connection.save?.();
      synchronous("save", state);
      if (state === undefined || state === null) return null;
      return filterSpec.state === "bytes" ? bytesOf(state, "save") : encode(json(state));
    }) ?? null;
  }
}

function answered(call) {
  try {
    return call();
  } catch (error) {
    throw textOf(error);
  }
}

// For functions that have no error to return.
function logged(name, call) {
  try {
    return call();
  } catch (error) {
    write("error", `${name}: ${textOf(error)}`);
  }
}

function admitted(handshake) {
  const made = filterSpec.open(handshake, filterConfig);
  synchronous("open", made);
  if (made instanceof Refusal) throw made;
  const { connection, options } = made instanceof Admission ? made : { connection: made, options: {} };
  if (typeof connection !== "object" || connection === null) throw new TypeError(`open returned ${show(connection)}, which is no connection`);
  return { connection, options };
}

function open(raw) {
  try {
    const { connection, options } = admitted(new Handshake(raw));
    return {
      session: new Session(connection),
      interest: connectionInterest(connection, options),
      upstreamHeaders: edits(options.upstreamHeaders, "upstreamHeaders"),
      clientHeaders: edits(options.clientHeaders, "clientHeaders"),
      subprotocol: options.subprotocol ?? null,
      upstream: options.upstream ?? null,
      tags: pairs(options.tags ?? {}),
    };
  } catch (thrown) {
    if (thrown instanceof Refusal) throw { status: thrown.status, headers: thrown.headers, body: thrown.body };
    write("error", `a handshake failed: ${textOf(thrown)}`);
    throw { status: 500, headers: [], body: new Uint8Array() };
  }
}

function resume(raw, bytes, cause) {
  try {
    const saved = bytes === null || bytes === undefined ? null : (asBytes(bytes) ?? Uint8Array.from(bytes));
    const state = saved === null || filterSpec.state === "bytes" ? saved : JSON.parse(decode(saved));
    const handshake = new Handshake(raw);
    let resumed;
    if (filterSpec.resume) resumed = filterSpec.resume(handshake, filterConfig, state, cause);
    else {
      resumed = admitted(handshake);
      resumed.connection.resume?.(state, cause);
    }
    const { connection, options } = resumed.connection ? resumed : { connection: resumed, options: {} };
    return { session: new Session(connection), interest: connectionInterest(connection, options) };
  } catch (thrown) {
    if (thrown instanceof Refusal) throw { tag: "close", val: closeInfo(1008, "no longer admitted") };
    if (thrown?.tag === "close") throw thrown;
    throw { tag: "keep-old", val: thrown instanceof KeepOld ? wellFormed(thrown.message) : textOf(thrown) };
  }
}

// The engine's own generator was seeded while the component was made: each instance would begin with the same numbers.
function seedRandom() {
  const now = clockHost.nowMs();
  let [a, b, c] = [now | 0, (now / 2 ** 32) | 0, Number(clockHost.monotonicNs()) | 0];
  let counter = 1;
  const next = () => {
    const sum = (((a + b) | 0) + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 16; i++) next();
  Math.random = () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

function init(config) {
  try {
    for (const [level, text, fields] of early?.splice(0) ?? []) loggingHost.log(level, inspect(text), pairs(fields ?? {}));
    early = undefined;
    seedRandom();
    filterConfig = readConfig(filterSpec, config);
    const { interest } = filterSpec;
    filterInterest = typeof interest === "function" ? interest(filterConfig) : (interest ?? {});
    return interestOf(filterInterest, filterSpec.hooks);
  } catch (error) {
    throw textOf(error);
  }
}

const HANDLER = { Session, init, open, resume };

/** Makes a class, or an object of hooks, the filter of this component. */
export function filter(given) {
  filterSpec = specOf(given);
  return HANDLER;
}

/** What the component exports as `handler`, of a module's exports: its `default`, or its functions. */
export function component(exports) {
  const given = exports.default ?? exports;
  return given === HANDLER ? given : filter(given);
}

// ---- What the gateway offers.

/** The time: milliseconds of Unix time, and nanoseconds of a clock that never goes back. */
export const clock = { nowMs: () => clockHost.nowMs(), monotonicNs: () => clockHost.monotonicNs() };

/** Figures of the filter's own. */
export const metrics = {
  add: (counter, labels = {}, by = 1) => metricsHost.add(counter, pairs(labels), by),
  observe: (histogram, labels, value) => metricsHost.observe(histogram, pairs(labels), value),
};

/** Topics and single connections. */
export const messaging = {
  send: (connection, value) => hostCall("messaging.send", () => messagingHost.send(connection, message(value))),
  close: (connection, code, why) => hostCall("messaging.close", () => messagingHost.close(connection, closeInfo(code, why))),
  publish: (topic, value, { exclude = null } = {}) =>
    hostCall("messaging.publish", () => messagingHost.publish(topic, message(value), exclude)),
  subscribe: (connection, topic) => hostCall("messaging.subscribe", () => messagingHost.subscribe(connection, topic)),
  unsubscribe: (connection, topic) => hostCall("messaging.unsubscribe", () => messagingHost.unsubscribe(connection, topic)),
};

class Entry {
  constructor({ value, version }) {
    this.bytes = asBytes(value) ?? Uint8Array.from(value);
    this.version = version;
  }

  text() {
    return decode(this.bytes);
  }

  json() {
    return JSON.parse(this.text());
  }
}

/** A store of the gateway, which connections, filters and instances share. */
export function store(name) {
  const call = (what, function_) => hostCall(`store ${name}: ${what}`, function_);
  const ttl = (options) => options?.ttlMs ?? null;
  return {
    get: (key) => {
      const entry = call("get", () => keyValueHost.get(name, key));
      return entry ? new Entry(entry) : null;
    },
    set: (key, value, options) => call("set", () => keyValueHost.set(name, key, bytesOf(value, "value"), ttl(options))),
    compareAndSet: (key, expected, value, options) =>
      call("compareAndSet", () => keyValueHost.compareAndSet(name, key, expected, bytesOf(value, "value"), ttl(options))),
    delete: (key) => call("delete", () => keyValueHost.delete(name, key)),
    increment: (key, by = 1, options) => call("increment", () => keyValueHost.increment(name, key, by, ttl(options))),
  };
}

// A filter without imports finds everything here.
const wsgate = {
  HostError, act, admit, clock, close, component, drop, field, filter, forward, hostCall, json, keepOld, log, messaging,
  metrics, reason, refuse, replace, reply, route, store, toClient, toUpstream,
};
Object.assign(globalThis, { console, TextDecoder, TextEncoder, wsgate });
export default wsgate;

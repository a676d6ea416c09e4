// Tests of a filter in Node, without a gateway: node --import wsgate/testing --test
// The gateway's side is played by what `host` writes down.
import { register } from "node:module";

const FUNCTIONS = {
  logging: ["enabled", "log", "reason"],
  clock: ["nowMs", "monotonicNs"],
  metrics: ["add", "observe"],
  messaging: ["send", "close", "publish", "subscribe", "unsubscribe"],
  "key-value": ["get", "set", "compareAndSet", "delete", "increment"],
  "http-client": ["send"],
};

// An import of the contract becomes a module whose functions ask the host that is set.
const hooks = `
const FUNCTIONS = ${JSON.stringify(FUNCTIONS)};
export function resolve(specifier, context, next) {
  return specifier.startsWith("wsgate:") ? { url: specifier, shortCircuit: true } : next(specifier, context);
}
export function load(url, context, next) {
  if (!url.startsWith("wsgate:")) return next(url, context);
  const name = /filter\\/([a-z-]+)@/.exec(url)[1];
  const functions = FUNCTIONS[name].map((f) => f + ": (...a) => globalThis.__wsgateHost[" + JSON.stringify(name) + "]." + f + "(...a)");
  return { format: "module", source: "export default {" + functions.join() + "}", shortCircuit: true };
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

/** What a filter did to the gateway, and what it finds there. */
export class Host {
  lines = [];
  reasons = [];
  counters = {};
  published = [];
  sent = [];
  closed = [];
  subscriptions = [];
  stores = {};
  requests = [];
  nowMs = Date.UTC(2026, 0, 1);
  #version = 0;

  /** A store that the filter may use, with these texts. */
  withStore(name, entries = {}) {
    this.stores[name] = new Map();
    for (const [key, value] of Object.entries(entries)) this.#put(name, key, new TextEncoder().encode(value));
    return this;
  }

  /** How requests are answered: a function from the request to `{ status, headers, body }`, with `body` a string. */
  withHttp(answer) {
    this.answer = answer;
    return this;
  }

  #store(name) {
    if (!this.stores[name]) throw { tag: "denied" };
    return this.stores[name];
  }

  #read(name, key) {
    const found = this.#store(name).get(key);
    return found && (found.until === undefined || this.nowMs < found.until) ? found : null;
  }

  #put(name, key, value, ttlMs) {
    const until = ttlMs === null || ttlMs === undefined ? undefined : this.nowMs + ttlMs;
    this.#store(name).set(key, { value, version: ++this.#version, until });
    return this.#version;
  }

  logging = {
    enabled: () => true,
    log: (level, message, fields) => this.lines.push({ level, message, fields: Object.fromEntries(fields) }),
    reason: (label) => this.reasons.push(label),
  };
  clock = { nowMs: () => this.nowMs, monotonicNs: () => this.nowMs * 1e6 };
  metrics = {
    add: (counter, labels, by) => (this.counters[counter] = (this.counters[counter] ?? 0) + by),
    observe: () => {},
  };
  messaging = {
    send: (to, { val }) => this.sent.push({ to, message: val }),
    close: (connection, info) => this.closed.push({ connection, ...info }),
    publish: (topic, { val }, exclude) => this.published.push({ topic, message: val, exclude }),
    subscribe: (connection, topic) => this.subscriptions.push({ connection, topic }),
    unsubscribe: (connection, topic) => {
      this.subscriptions = this.subscriptions.filter((it) => it.connection !== connection || it.topic !== topic);
    },
  };
  "key-value" = {
    get: (name, key) => this.#read(name, key),
    set: (name, key, value, ttl) => this.#put(name, key, value, ttl),
    compareAndSet: (name, key, expected, value, ttl) => {
      if ((this.#read(name, key)?.version ?? null) !== expected) return false;
      this.#put(name, key, value, ttl);
      return true;
    },
    delete: (name, key) => void this.#store(name).delete(key),
    increment: (name, key, by, ttl) => {
      const found = this.#read(name, key);
      const sum = Number(found ? new TextDecoder().decode(found.value) : 0) + by;
      this.#put(name, key, new TextEncoder().encode(String(sum)), found ? undefined : ttl);
      if (found) this.stores[name].get(key).until = found.until;
      return sum;
    },
  };
  "http-client" = {
    send: (request) => {
      this.requests.push({ ...request, body: new TextDecoder().decode(request.body) });
      if (!this.answer) throw { tag: "denied" };
      const { status = 200, headers = {}, body = "" } = this.answer(request);
      const encode = (text) => new TextEncoder().encode(text);
      return { status, headers: Object.entries(headers).map(([name, value]) => ({ name, value: encode(value) })), body: encode(body) };
    },
  };
}

const REQUEST = {
  connection: "c1", route: "test", host: "localhost", path: "/", parameters: [], query: null, headers: [], subprotocols: [],
  client: "192.0.2.1:1234", secure: false, clientCertificate: null, identity: null,
};

function handshake({ headers = {}, parameters = {}, ...rest } = {}) {
  const list = Object.entries(headers).map(([name, value]) => ({ name: name.toLowerCase(), value: new TextEncoder().encode(value) }));
  return { ...REQUEST, headers: list, parameters: Object.entries(parameters), ...rest };
}

const raw = (message) => ({ tag: typeof message === "string" ? "text" : "binary", val: message });

/** One open connection of a filter under test. Functions return verdicts as `forward`, `replace`, … make them, and throw texts. */
class TestConnection {
  constructor(handler, request, admission) {
    Object.assign(this, { handler, request, admission, session: admission.session });
  }

  message(direction, message) {
    return this.session.onMessage(direction, raw(message));
  }

  delivery(topic, message) {
    return this.session.onDelivery(topic, raw(message));
  }

  tick() {
    return this.session.onTick();
  }

  close(code = 1000, reason = "", by = "client") {
    this.session.onClose(by, { code, reason });
  }

  /** Moves it to a new session, as a reload does. */
  reload(cause = "reload") {
    this.session = this.handler.resume(this.request, this.session.save(), cause).session;
  }
}

/** Starts a filter (the default export of its module) with a configuration and opens a connection; throws a refusal. */
export function open(handler, { config = {}, request = {}, host = new Host() } = {}) {
  globalThis.__wsgateHost = host;
  const interest = handler.init(JSON.stringify(config));
  const asked = handshake(request);
  const connection = new TestConnection(handler, asked, handler.open(asked));
  return Object.assign(connection, { host, interest });
}

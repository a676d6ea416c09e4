/** Write filters for the wsgate WebSocket gateway in JavaScript or TypeScript. */

/** A text message is a string, a binary one is bytes. */
export type Message = string | Uint8Array;
export type Direction = "to-upstream" | "to-client";
export type Closer = "client" | "upstream" | "gateway" | "filter";
/** Why a connection is handed over. */
export type ResumeCause = "reload" | "fault" | "added" | "rollback";
type Bytes = string | ArrayBuffer | ArrayBufferView;
type Headers = Record<string, Bytes> | Iterable<[string, Bytes]>;
type Labels = Record<string, unknown>;

declare const verdict: unique symbol;
declare const action: unique symbol;
/** What becomes of a message. Made by `forward`, `replace`, `drop`, `reply`, `close`, `act` and `route`. */
export interface Verdict { readonly [verdict]: true }
/** One thing to do. Made by `toClient`, `toUpstream` and `close`. */
export interface Action { readonly [action]: true }
/** What a hook returns for a message: nothing forwards it, a list of actions is done instead. */
export type Decision = Verdict | Action[] | void;
/** What a hook returns that decides about no message. */
export type Actions = Action | Action[] | void;

/** Pass the message on as it came. Nothing is copied back, so this costs least. */
export function forward(): Verdict;
/** Pass this message on in its stead. */
export function replace(message: Message): Verdict;
/** The message goes no further. Its sender is not told. */
export function drop(): Verdict;
/** Send this back to where the message came from; the message itself goes no further. */
export function reply(message: Message): Verdict;
/** Close the connection with a code of 1000-1003, 1007-1014 or 3000-4999. */
export function close(code: number, reason?: string): Verdict & Action;
/** Do these things instead of passing the message on, in this order. */
export function act(...actions: (Action | Action[])[]): Verdict;
/** Send the message, on its way to the upstream, to another configured upstream. The filter's `allow` has to name it. */
export function route(upstream: string): Verdict;
/** Send a message to the client. */
export function toClient(message: Message): Action;
/** Send a message to the upstream. */
export function toUpstream(message: Message): Action;
/** A value as the text of a message. */
export function json(value: unknown): string;

/** Who the client is, as the gateway verified it. */
export interface Identity {
  subject: string | null;
  issuer: string | null;
  scopes: string[];
  /** In seconds of Unix time. */
  expiresAt: number | null;
  claims: Record<string, any>;
  hasScope(scope: string): boolean;
}

/** The opening HTTP request of a connection. */
export interface Handshake {
  connection: string;
  route: string;
  host: string;
  path: string;
  /** What the `{name}` parts of the route's path matched. */
  parameters: Record<string, string>;
  query: string | null;
  subprotocols: string[];
  /** `ip:port`. */
  client: string;
  secure: boolean;
  clientCertificate: string | null;
  identity: Identity | null;
  /** All headers, names in lower case. */
  readonly headers: [string, Uint8Array][];
  /** The value of the first header of this name, in any case. */
  header(name: string): string | undefined;
  headerAll(name: string): string[];
  cookie(name: string): string | undefined;
  /** The first value of this name in the query, decoded. */
  queryValue(name: string): string | undefined;
  queryAll(name: string): string[];
  offersSubprotocol(name: string): boolean;
}

/** What to be called for, beside the hooks that a filter has. */
export interface Interest {
  /** Directions of `onMessage`; "both" where nothing is said. */
  directions?: "both" | Direction;
  kinds?: "both" | "text" | "binary";
  /** How often to call `onTick`. At least 10. */
  tickMs?: number;
}

/** One open connection. Only hooks that are there are called. What a hook throws is that call's fault alone: its text goes to the
 * log, and the filter's `failure_policy` decides about the connection. Hooks cannot be async. */
export interface Connection {
  onMessage?(direction: Direction, message: Message): Decision;
  /** Instead of `onMessage`, for one direction. */
  onMessageToUpstream?(message: Message): Decision;
  onMessageToClient?(message: Message): Decision;
  /** A message of a topic that this connection is subscribed to. */
  onDelivery?(topic: string, message: Message): Decision;
  onTick?(): Actions;
  /** The client's token was refreshed. */
  onIdentity?(identity: Identity): Actions;
  onClose?(by: Closer, info: { code: number; reason: string }): void;
  /** State for `resume` of the next generation: anything that JSON can say, or bytes where the filter has `state: "bytes"`. */
  save?(): unknown;
  /** Called after `open` for a connection that is open already, with what `save` had returned, or null. May throw `keepOld(…)`, or
   * `close(…)`. */
  resume?(state: any, cause: ResumeCause): void;
}

interface HeaderEdits { set?: Headers; append?: Headers; remove?: string[] }
export interface AdmissionOptions {
  upstreamHeaders?: HeaderEdits;
  clientHeaders?: HeaderEdits;
  /** One that the client offers. */
  subprotocol?: string;
  /** Another configured upstream. The filter's `allow` has to name it. */
  upstream?: string;
  /** Shown in logs and the admin API. */
  tags?: Labels;
  /** For this connection, where it differs. */
  interest?: Interest;
}
declare class Admission { private constructor() }
declare class Refusal { private constructor() }
/** Let a connection in, with edits and choices. `open` may return the connection alone instead. */
export function admit(connection: Connection, options?: AdmissionOptions): Admission;
/** Refuse a connection: to be returned or thrown by `open`. A body that is neither text nor bytes is sent as JSON. */
export function refuse(status: number, body?: unknown, headers?: Headers): Refusal;
/** To be thrown by `resume`: the connection stays with the old generation. */
export function keepOld(why: string): Error;

// ---- Configuration.

export interface Field<T> { read(value: unknown, path: string): T }
type Fields = Record<string, Field<any>>;
type Options<T> = { default: T } | { optional: true } | {};
type Read<T, O> = O extends { optional: true } ? T | undefined : T;
/** The value that these fields read. */
export type Config<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };
type Range = { min?: number; max?: number };
/** What a configuration may hold. A key that is missing, unknown or wrong keeps the filter from being loaded; the error names it. */
export const field: {
  string<O extends Options<string> = {}>(options?: O): Field<Read<string, O>>;
  boolean<O extends Options<boolean> = {}>(options?: O): Field<Read<boolean, O>>;
  number<O extends Options<number> & Range = {}>(options?: O): Field<Read<number, O>>;
  integer<O extends Options<number> & Range = {}>(options?: O): Field<Read<number, O>>;
  oneOf<const T, O extends Options<T> = {}>(values: readonly T[], options?: O): Field<Read<T, O>>;
  list<T, O extends Options<T[]> = {}>(of: Field<T>, options?: O): Field<Read<T[], O>>;
  table<F extends Fields, O extends Options<Config<F>> = {}>(fields: F, options?: O): Field<Read<Config<F>, O>>;
  map<T, O extends Options<Record<string, T>> = {}>(of: Field<T>, options?: O): Field<Read<Record<string, T>, O>>;
  any<O extends Options<any> = {}>(options?: O): Field<any>;
  /** The same field, whose value `make` turns into another; what `make` throws gets the key before it. */
  to<T, U>(of: Field<T>, make: (value: T) => U): Field<U>;
};

// ---- The filter.

interface Common<C> {
  /** Fields, or a function that reads the table and may throw. Without it the table is taken as it is. */
  config?: Fields | ((table: any) => C);
  interest?: Interest | ((config: C) => Interest);
  state?: "json" | "bytes";
}
/** A filter with an `open` of its own. */
export interface FilterObject<C = any> extends Common<C> {
  open(handshake: Handshake, config: C): Connection | Admission | Refusal;
  /** Instead of `open` and the connection's `resume`. */
  resume?(handshake: Handshake, config: C, state: any, cause: ResumeCause): Connection | Admission;
}
/** A filter that is its hooks: `this` is one connection, with `handshake` and `config`. */
export type FilterHooks<C = any> = Common<C> & Omit<Connection, "resume"> & { resume?(state: any, cause: ResumeCause): void };
/** A filter that is a class: one value is one connection. */
export interface FilterClass<C = any> extends Common<C> {
  new (...parameters: any[]): Connection;
  prototype: Connection;
  open?(handshake: Handshake, config: C): Connection | Admission | Refusal;
}
/** What a component exports. */
export interface Handler { readonly init: unknown; readonly open: unknown; readonly resume: unknown; readonly Session: unknown }
/** Makes a class, or an object, the filter of this component: `export default filter(…)`. */
export function filter<F extends Fields>(given: FilterObject<Config<F>> & { config: F }): Handler;
export function filter<F extends Fields>(given: FilterHooks<Config<F>> & { config: F } & ThisType<Connection & { handshake: Handshake; config: Config<F>; [name: string]: any }>): Handler;
export function filter(given: FilterClass | FilterObject | (FilterHooks & ThisType<any>)): Handler;
/** What the component exports as `handler`, of a module's exports. */
export function component(exports: object): Handler;

// ---- What the gateway offers.

/** An import of the gateway failed. */
export class HostError extends Error {
  /** The contract's word: "denied", "not-found", "queue-full", "too-large", "invalid", "unavailable", "timeout". */
  readonly kind: string;
}
export function hostCall<T>(name: string, call: () => T): T;

type Level = "trace" | "debug" | "info" | "warn" | "error";
type Line = (message: unknown, fields?: Labels) => void;
/** Lines in the gateway's log, as `console` writes them too. What clients send may be secret: it does not belong into a log. */
export const log: { enabled(level: Level): boolean } & Record<Level, Line>;
/** Names why this call decided as it did, by a short label of a small set. */
export function reason(label: string): void;
export const clock: { nowMs(): number; monotonicNs(): number };
export const metrics: {
  add(counter: string, labels?: Labels, by?: number): void;
  observe(histogram: string, labels: Labels, value: number): void;
};
/** Topics and single connections. Every function throws `HostError`. */
export const messaging: {
  send(connection: string, message: Message): void;
  close(connection: string, code: number, reason?: string): void;
  publish(topic: string, message: Message, options?: { exclude?: string }): void;
  subscribe(connection: string, topic: string): void;
  unsubscribe(connection: string, topic: string): void;
};
export interface Entry { bytes: Uint8Array; version: number; text(): string; json(): any }
type Ttl = { ttlMs?: number };
/** A store, which connections, filters and instances share. Every function throws `HostError`. */
export function store(name: string): {
  get(key: string): Entry | null;
  /** Returns the new version. */
  set(key: string, value: Bytes, options?: Ttl): number;
  /** False where the version is another one; `expected` null: only where the key is absent. */
  compareAndSet(key: string, expected: number | null, value: Bytes, options?: Ttl): boolean;
  delete(key: string): void;
  increment(key: string, by?: number, options?: Ttl): number;
};

declare const wsgate: typeof import("wsgate");
export default wsgate;

declare global {
  /** All of this module, for a file without imports. */
  const wsgate: typeof import("wsgate");
  var console: Record<"trace" | "debug" | "log" | "info" | "warn" | "error", (...values: unknown[]) => void> & {
    assert(condition: unknown, ...values: unknown[]): void;
  };
  class TextEncoder {
    readonly encoding: string;
    encode(text?: string): Uint8Array;
  }
  class TextDecoder {
    constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
    decode(input?: ArrayBuffer | ArrayBufferView): string;
  }
}

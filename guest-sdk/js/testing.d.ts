/** Tests of a filter in Node, without a gateway: `node --import wsgate/testing --test`. */
import type { Direction, Handler, Message, ResumeCause } from "wsgate";

/** What a filter did to the gateway, and what it finds there. */
export class Host {
  lines: { level: string; message: string; fields: Record<string, string> }[];
  reasons: string[];
  counters: Record<string, number>;
  published: { topic: string; message: Message; exclude: string | null }[];
  sent: { to: string; message: Message }[];
  closed: { connection: string; code: number; reason: string }[];
  subscriptions: { connection: string; topic: string }[];
  requests: { method: string; url: string; body: string }[];
  /** The time. Set it to let it pass. */
  nowMs: number;
  /** A store that the filter may use, with these texts. Others are denied. */
  withStore(name: string, entries?: Record<string, string>): this;
  /** How HTTP requests are answered. Without it they are denied. */
  withHttp(answer: (request: any) => { status?: number; headers?: Record<string, string>; body?: string }): this;
}

/** One open connection of a filter under test. */
export interface TestConnection {
  host: Host;
  interest: any;
  admission: any;
  message(direction: Direction, message: Message): any;
  delivery(topic: string, message: Message): any;
  tick(): any;
  close(code?: number, reason?: string, by?: string): void;
  /** Moves it to a new session, as a reload does. */
  reload(cause?: ResumeCause): void;
}

/** Starts a filter with a configuration and opens a connection; throws a refusal. */
export function open(
  filter: Handler,
  options?: { config?: object; request?: { headers?: Record<string, string>; parameters?: Record<string, string>; [name: string]: any }; host?: Host },
): TestConnection;

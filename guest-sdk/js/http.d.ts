/** HTTP requests, to the origins that the filter's `allow = { http = [...] }` names. */
type Bytes = string | Uint8Array;
export interface RequestOptions {
  headers?: Record<string, Bytes> | [string, Bytes][];
  body?: Bytes;
  /** How long the whole call may take; 1,000 where nothing is said. */
  timeoutMs?: number;
}
export interface Response {
  status: number;
  /** Whether the status is 2xx. */
  ok: boolean;
  headers: [string, string][];
  body: Uint8Array;
  header(name: string): string | undefined;
  text(): string;
  json(): any;
}
/** Sends a request and waits for the whole response. Any status is a response. Throws `HostError`. */
export function request(request: RequestOptions & { method?: string; url: string }): Response;
export function get(url: string, options?: RequestOptions): Response;
export function post(url: string, body: Bytes, options?: RequestOptions): Response;

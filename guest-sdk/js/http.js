// HTTP requests. A filter that imports this needs the right `allow = { http = [...] }` and has the world `filter-http`.
import httpHost from "wsgate:filter/http-client@0.1.0";
import { hostCall } from "wsgate";

const DEFAULT_TIMEOUT_MS = 1000;

const encode = (value) => (typeof value === "string" ? new TextEncoder().encode(value) : value);

class Response {
  constructor({ status, headers, body }) {
    this.status = status;
    this.ok = status >= 200 && status < 300;
    this.headers = headers.map(({ name, value }) => [name, new TextDecoder().decode(Uint8Array.from(value))]);
    this.body = body instanceof Uint8Array ? body : Uint8Array.from(body);
  }

  header(name) {
    return this.headers.find(([header]) => header === name.toLowerCase())?.[1];
  }

  text() {
    return new TextDecoder().decode(this.body);
  }

  json() {
    return JSON.parse(this.text());
  }
}

/** Sends a request and waits for the whole response. Any status is a response, not an error. */
export function request({ method = "GET", url, headers = {}, body = new Uint8Array(), timeoutMs = DEFAULT_TIMEOUT_MS }) {
  const list = (Array.isArray(headers) ? headers : Object.entries(headers)).map(([name, value]) => ({ name, value: encode(value) }));
  const sent = { method, url: String(url), headers: list, body: encode(body), timeoutMs };
  return new Response(hostCall(`${method} ${url}`, () => httpHost.send(sent)));
}

export const get = (url, options = {}) => request({ ...options, url });
export const post = (url, body, options = {}) => request({ method: "POST", ...options, url, body });

// A WebSocket proxy on Node and the npm package ws, as one would write it: ws-proxy.mjs PORT UPSTREAM_PORT [json]

import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";
import { Refused, settings, transform } from "./script.mjs";

const { port, upstream, scripted } = settings();
const HIGH_WATER_BYTES = 1024 * 1024;
const PLAIN = { perMessageDeflate: false };

/** Sends, and where the receiver does not keep up, stops reading from the sender until it does. */
function relay(from, to, data, isBinary) {
  if (to.bufferedAmount < HIGH_WATER_BYTES) {
    to.send(data, { binary: isBinary });
    return;
  }
  from.pause();
  to.send(data, { binary: isBinary }, () => from.resume());
}

function close(to, code, reason) {
  // 1005 and 1006 stand for "no code" and must not be sent.
  if (code === 1005 || code === 1006) to.close();
  else to.close(code, reason);
}

function toUpstream(client, server, data, isBinary) {
  if (!scripted || isBinary) return relay(client, server, data, isBinary);
  let text;
  try {
    text = transform(data.toString());
  } catch (error) {
    return client.close(1008, error instanceof Refused ? error.message : "not JSON");
  }
  relay(client, server, text, false);
}

const gateway = new WebSocketServer({ noServer: true, ...PLAIN });
const http = createServer((_, response) => response.writeHead(426).end());

http.on("upgrade", (request, socket, head) => {
  socket.on("error", () => socket.destroy());
  const server = new WebSocket(upstream, PLAIN);
  const refuse = () => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
  server.once("error", refuse);
  server.once("open", () => {
    server.off("error", refuse);
    server.on("error", () => {});
    gateway.handleUpgrade(request, socket, head, (client) => {
      client.on("error", () => {});
      client.on("message", (data, isBinary) => toUpstream(client, server, data, isBinary));
      server.on("message", (data, isBinary) => relay(server, client, data, isBinary));
      client.on("close", (code, reason) => close(server, code, reason));
      server.on("close", (code, reason) => close(client, code, reason));
    });
  });
});

http.listen(port, "127.0.0.1");

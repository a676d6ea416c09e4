// A WebSocket proxy on Bun alone, as one would write it: ws-proxy-bun.mjs PORT UPSTREAM_PORT [json]

import { Refused, settings, transform } from "./script.mjs";

const { port, upstream, scripted } = settings();

function dial() {
  return new Promise((resolve, reject) => {
    const server = new WebSocket(upstream);
    server.binaryType = "nodebuffer";
    server.onopen = () => resolve(server);
    server.onerror = reject;
  });
}

function toUpstream(client, data) {
  const { server } = client.data;
  if (!scripted || typeof data !== "string") return server.send(data);
  let text;
  try {
    text = transform(data);
  } catch (error) {
    return client.close(1008, error instanceof Refused ? error.message : "not JSON");
  }
  server.send(text);
}

Bun.serve({
  port,
  hostname: "127.0.0.1",
  async fetch(request, gateway) {
    try {
      const server = await dial();
      if (gateway.upgrade(request, { data: { server } })) return;
      server.close();
      return new Response(null, { status: 426 });
    } catch {
      return new Response(null, { status: 502 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    open(client) {
      const { server } = client.data;
      server.onmessage = (event) => client.send(event.data);
      server.onclose = () => client.close();
    },
    message: toUpstream,
    close(client) {
      client.data.server.close();
    },
  },
});

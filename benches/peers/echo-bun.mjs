// The echo upstream on Bun: echo-bun.mjs PORT

Bun.serve({
  port: Number(process.argv[2]),
  hostname: "127.0.0.1",
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response(null, { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    // Whatever is in flight comes back: nothing is dropped because a reader is slow.
    backpressureLimit: 64 * 1024 * 1024,
    maxPayloadLength: 64 * 1024 * 1024,
    message: (socket, data) => void socket.send(data),
  },
});

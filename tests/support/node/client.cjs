// A WebSocket client driven by one JSON command a line on stdin; each is answered by one JSON line on stdout.
"use strict";
const readline = require("node:readline");
const WebSocket = require("ws");

let socket;
let inbox; // messages that nobody asked for yet
let waiting; // whoever waits for a message
let end; // resolves to [code, reason]
let over;

function deliver(message) {
  if (waiting) waiting(message);
  else inbox.push(message);
  waiting = undefined;
}

const receive = () => (inbox.length || over ? Promise.resolve(inbox.shift()) : new Promise((take) => (waiting = take)));

function payload(number, size, kind) {
  const text = String(number).padStart(8, "0").padEnd(size, "x");
  return kind === "text" ? text : Buffer.from(text);
}

const commands = {
  connect({ url, subprotocols, headers }) {
    inbox = [];
    over = false;
    socket = new WebSocket(url, subprotocols ?? [], { headers, maxPayload: 0 });
    socket.on("error", () => {});
    socket.on("message", (data, binary) => deliver({ data, binary }));
    end = new Promise((ended) =>
      socket.on("close", (code, reason) => {
        over = true;
        ended([code, reason.toString()]);
        if (waiting) waiting(undefined);
      }),
    );
    return new Promise((answer) => {
      socket.on("open", () => answer({ status: 101, subprotocol: socket.protocol || null }));
      socket.on("unexpected-response", (_request, response) => {
        let body = "";
        response.on("data", (part) => (body += part));
        response.on("end", () => answer({ status: response.statusCode, headers: response.headers, body }));
      });
    });
  },
  async send({ text, hex }) {
    socket.send(text ?? Buffer.from(hex, "hex"));
    return {};
  },
  async receive() {
    const message = await receive();
    if (message === undefined) return { closed: await end };
    return message.binary ? { hex: message.data.toString("hex") } : { text: message.data.toString() };
  },
  // Keeps `window` messages in flight and checks that each comes back whole, once and in order.
  async roundtrips({ count, size, kind, window }) {
    let sent = 0;
    for (let number = 0; number < count; number++) {
      for (; sent < count && sent < number + window; sent++) socket.send(payload(sent, size, kind));
      const message = await receive();
      if (message === undefined) return { error: `closed before message ${number}: ${await end}` };
      const wanted = payload(number, size, kind);
      if (message.binary !== (kind === "binary") || !message.data.equals(Buffer.from(wanted)))
        return { error: `message ${number} came back as ${message.data.subarray(0, 40)}` };
    }
    return { answered: count };
  },
  async close({ code, reason }) {
    if (code === undefined) socket.close();
    else socket.close(code, reason);
    return { closed: await end };
  },
  async wait_closed() {
    return { closed: await end };
  },
  async vanish() {
    socket.terminate();
    return {};
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    const answer = await commands[command.do](command).catch((error) => ({ error: String(error) }));
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
  process.exit(0);
})();

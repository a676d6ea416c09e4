// A STOMP client (@stomp/stompjs) driven by one JSON command a line on stdin, one JSON line on stdout for each.
"use strict";
const readline = require("node:readline");
const WebSocket = require("ws");
const { Client } = require("@stomp/stompjs");

let client;
let events;
let waiting;

function deliver(event) {
  if (waiting) waiting(event);
  else events.push(event);
  waiting = undefined;
}

const commands = {
  connect({ url, token, split }) {
    events = [];
    client = new Client({
      webSocketFactory: () => {
        const socket = new WebSocket(url, ["v12.stomp", "v11.stomp", "v10.stomp"], {
          headers: { Authorization: `Bearer ${token}` },
        });
        socket.binaryType = "arraybuffer";
        return socket;
      },
      splitLargeFrames: Boolean(split),
      maxWebSocketChunkSize: split ?? 8192,
      reconnectDelay: 0,
      heartbeatIncoming: 0,
      heartbeatOutgoing: 0,
    });
    return new Promise((answer) => {
      client.onConnect = (frame) => answer({ version: frame.headers.version });
      client.onStompError = ({ headers }) => deliver({ stomp_error: headers.message, receipt: headers["receipt-id"] });
      client.onWebSocketClose = ({ code }) => deliver({ closed: code });
      client.activate();
    });
  },
  async subscribe({ destination, id }) {
    client.subscribe(destination, (message) => deliver({ body: message.body }), { id });
    return {};
  },
  async send({ destination, body, receipt }) {
    client.publish({ destination, body, headers: receipt ? { receipt } : {} });
    return {};
  },
  // A message, an ERROR frame or the end of the connection.
  async receive() {
    return events.length ? events.shift() : new Promise((take) => (waiting = take));
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

// An MQTT client (mqtt.js) driven by one JSON command a line on stdin; each is answered by one JSON line on stdout.
"use strict";
const readline = require("node:readline");
const mqtt = require("mqtt");

let client;
const inbox = [];
let waiting;
let ended;

function deliver(message) {
  if (waiting) waiting(message);
  else inbox.push(message);
  waiting = undefined;
}

const commands = {
  // `connack` is the reason code of CONNACK; `closed` tells that none came.
  connect({ url, token, version, id, will }) {
    const headers = { Authorization: `Bearer ${token}` };
    const options = { clientId: id, protocolVersion: version, reconnectPeriod: 0, wsOptions: { headers }, will };
    client = mqtt.connect(url, options);
    client.on("message", (topic, payload) => deliver({ topic, payload: payload.toString() }));
    ended = new Promise((done) => client.stream.on("close", () => done({ closed: true })));
    return new Promise((answer) => {
      client.on("connect", (packet) => answer({ connack: packet.reasonCode ?? packet.returnCode }));
      client.on("error", (error) => answer({ connack: error.code, text: error.message }));
      ended.then(answer);
    });
  },
  // The codes of SUBACK, in the order of the filters.
  subscribe({ filters }) {
    return new Promise((answer) =>
      client.subscribe(filters, { qos: 1 }, (error, _granted, packet) =>
        answer(packet ? { codes: Array.from(packet.granted) } : { text: String(error) }),
      ),
    );
  },
  // `code` is the reason code of PUBACK or PUBREC, 0 for success.
  publish({ topic, payload, qos, alias }) {
    const options = { qos, ...(alias ? { properties: { topicAlias: alias } } : {}) };
    const sent = new Promise((answer) =>
      client.publish(topic, payload, options, (error) => answer({ code: error ? (error.code ?? -1) : 0 })),
    );
    return Promise.race([sent, ended]);
  },
  async receive() {
    return inbox.length ? inbox.shift() : new Promise((take) => (waiting = take));
  },
  closed: () => ended,
  end: () => client.endAsync().then(() => ({})),
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    const answer = await Promise.resolve(commands[command.do](command)).catch((error) => ({ error: String(error) }));
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
  process.exit(0);
})();

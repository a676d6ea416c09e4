// Plays every case of an Autobahn fuzzing server as an echoing client: `node autobahn.cjs URL`.
"use strict";
const WebSocket = require("ws");

const url = process.argv[2];
const agent = "ws";

function play(path, onMessage) {
  return new Promise((done) => {
    const socket = new WebSocket(`${url}${path}`, { maxPayload: 0, perMessageDeflate: false });
    socket.on("message", (data, binary) => onMessage(socket, data, binary));
    socket.on("error", () => {});
    socket.on("close", done);
  });
}

(async () => {
  let count = 0;
  await play("/getCaseCount", (_socket, data) => (count = Number(data.toString())));
  for (let number = 1; number <= count; number++) {
    await play(`/runCase?case=${number}&agent=${agent}`, (socket, data, binary) => socket.send(data, { binary }));
  }
  await play(`/updateReports?agent=${agent}`, () => {});
  process.stdout.write(JSON.stringify({ played: count }) + "\n");
})();

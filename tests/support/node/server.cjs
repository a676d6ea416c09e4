// A WebSocket echo server that does as it is told. One JSON event a line on stdout.
//
// Text messages that start with `!` are commands: `!close [CODE REASON]`, `!die`, `!push COUNT TEXT`.
// `/refuse/STATUS` answers the handshake with that status.
"use strict";
const { WebSocketServer } = require("ws");

const SUBPROTOCOLS = ["chat.v2", "chat.v1"];
const report = (event) => process.stdout.write(JSON.stringify(event) + "\n");

function admit({ req }, answer) {
  const refused = /^\/refuse\/(\d+)$/.exec(req.url);
  if (!refused) return answer(true);
  const headers = { "WWW-Authenticate": "Bearer", "X-Internal": "secret" };
  answer(false, Number(refused[1]), `refused by the upstream with ${refused[1]}`, headers);
}

function obey(socket, command) {
  const [verb, first, ...rest] = command.split(" ");
  if (verb === "!close") {
    if (first) socket.close(Number(first), rest.join(" "));
    else socket.close();
  } else if (verb === "!die") {
    socket.terminate();
  } else if (verb === "!push") {
    for (let number = 0; number < Number(first); number++) socket.send(`${rest.join(" ")} ${number}`);
  }
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  maxPayload: 0,
  verifyClient: admit,
  handleProtocols: (offered) => SUBPROTOCOLS.find((name) => offered.has(name)) ?? false,
});
server.on("listening", () => report({ event: "listening", port: server.address().port }));
server.on("connection", (socket, request) => {
  const { url: path, headers } = request;
  report({ event: "open", path, subprotocol: socket.protocol || null, headers });
  socket.on("error", () => {});
  socket.on("message", (data, binary) => {
    if (!binary && data[0] === 0x21) obey(socket, data.toString());
    else socket.send(data, { binary });
  });
  socket.on("close", (code, reason) => report({ event: "close", path, code, reason: reason.toString() }));
});

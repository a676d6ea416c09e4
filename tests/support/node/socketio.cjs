// Socket.IO on both sides. `server`: says its port, answers `ping` events with their argument. `clients`: driven by JSON lines.
"use strict";
const readline = require("node:readline");
const say = (answer) => console.log(JSON.stringify(answer));

function server() {
  const http = require("node:http").createServer();
  const io = new (require("socket.io").Server)(http);
  io.on("connection", (socket) => {
    socket.on("ping", (text, answer) => answer(text));
    socket.on("all", (text) => io.emit("said", text));
  });
  http.listen(0, "127.0.0.1", () => say({ port: http.address().port }));
}

const sockets = [];
let said = 0;

// Begins with polling, as Socket.IO does by itself, and waits for the upgrade.
function open(url, options) {
  const socket = require("socket.io-client").io(url, { forceNew: true, reconnection: false, ...options });
  sockets.push(socket);
  socket.on("said", () => (said += 1));
  return new Promise((opened, failed) => {
    let first;
    socket.on("connect_error", failed);
    socket.io.on("close", failed);
    socket.io.on("open", () => {
      first = socket.io.engine.transport.name;
      socket.io.engine.on("upgrade", (transport) => opened([first, transport.name]));
    });
  });
}

const ping = (socket, text) => new Promise((answered) => socket.emit("ping", text, answered));

const commands = {
  // `keeps`: what leads a client back to its server, a "cookie" that it was given or a "query" of its own.
  async open({ url, count, keeps }) {
    const options = (at) => ({ withCredentials: keeps === "cookie", query: keeps === "query" ? { user: at } : {} });
    let ways;
    try {
      ways = await Promise.all(Array.from({ length: count }, (_, at) => open(url, options(at))));
    } catch (reason) {
      return { lost: String(reason) };
    }
    return { ways: [...new Set(ways.map((way) => way.join(" to ")))], open: ways.length };
  },
  async ping() {
    const answers = await Promise.all(sockets.map((socket, at) => ping(socket, `from ${at}`)));
    return { right: answers.filter((answer, at) => answer === `from ${at}`).length };
  },
  async all() {
    sockets[0].emit("all", "hello");
    while (said < sockets.length) await new Promise((later) => setTimeout(later, 5));
    return { said };
  },
};

if (process.argv[2] === "server") {
  server();
} else {
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const command = JSON.parse(line);
    try {
      say(await commands[command.do](command));
    } catch (error) {
      say({ error: String(error) });
    }
  });
}

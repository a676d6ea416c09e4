// A small STOMP 1.2 server: what is sent to a destination reaches its subscribers. One JSON event a line on stdout.
"use strict";
const { WebSocketServer } = require("ws");

const report = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const subscribers = []; // [socket, id, destination]

function obey(socket, frame) {
  const [head, ...rest] = frame.split("\n\n");
  const [command, ...lines] = head.split("\n");
  const headers = Object.fromEntries(lines.map((line) => line.split(/:(.*)/s).slice(0, 2)));
  report({ event: command, destination: headers.destination });
  if (command === "CONNECT") socket.send("CONNECTED\nversion:1.2\n\n\0");
  if (command === "SUBSCRIBE") subscribers.push([socket, headers.id, headers.destination]);
  if (command !== "SEND") return;
  const body = rest.join("\n\n");
  for (const [other, id, destination] of subscribers)
    if (destination === headers.destination)
      other.send(`MESSAGE\nsubscription:${id}\nmessage-id:1\ndestination:${destination}\n\n${body}\0`);
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: () => "v12.stomp" });
server.on("listening", () => report({ event: "listening", port: server.address().port }));
server.on("connection", (socket) => {
  let held = "";
  socket.on("error", () => {});
  socket.on("message", (data) => {
    const frames = (held + data.toString()).split("\0");
    held = frames.pop();
    for (const frame of frames) obey(socket, frame.trimStart());
  });
});

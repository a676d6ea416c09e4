// A GraphQL client (graphql-ws) driven by one JSON command a line on stdin; each is answered by one JSON line on stdout.
"use strict";
const readline = require("node:readline");
const WebSocket = require("ws");
const { createClient } = require("graphql-ws");

let client;
let token;
const closed = [];

class Authorized extends WebSocket {
  constructor(url, subprotocols) {
    super(url, subprotocols, { headers: { Authorization: `Bearer ${token}` } });
  }
}

const commands = {
  async connect({ url, token: given }) {
    token = given;
    client = createClient({ url, webSocketImpl: Authorized, retryAttempts: 0, lazy: false, onNonLazyError: () => {} });
    client.on("closed", ({ code, reason }) => closed.push({ code, reason }));
    return new Promise((answer) => client.on("connected", () => answer({ connected: true })));
  },
  // All results of an operation, or its errors.
  run({ query, variables, operation }) {
    const results = [];
    return new Promise((answer) =>
      client.subscribe(
        { query, variables, operationName: operation },
        {
          next: (result) => results.push(result.data ?? result.errors),
          error: (errors) => answer(Array.isArray(errors) ? { errors } : { closed: errors.code ?? String(errors) }),
          complete: () => answer({ results }),
        },
      ),
    );
  },
  // Operations that go on; each is answered by an error or not at all.
  async open({ query, count }) {
    const errors = [];
    for (let number = 0; number < count; number++)
      client.subscribe({ query }, { next() {}, error: (error) => errors.push(error), complete() {} });
    const asked = await commands.run({ query: "{ me { name } }" });
    return { refused: errors.length, asked };
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

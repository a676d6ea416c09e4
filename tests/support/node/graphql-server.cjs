// A GraphQL server (graphql-ws over ws). One JSON event a line on stdout.
"use strict";
const { WebSocketServer } = require("ws");
const { buildSchema } = require("graphql");
const { useServer } = require("graphql-ws/use/ws");

const report = (event) => process.stdout.write(JSON.stringify(event) + "\n");
const schema = buildSchema(`
  type User { name: String, friends(first: Int): [User] }
  type Query { me: User }
  type Mutation { rename(name: String): String }
  type Subscription { count(to: Int!): Int, silence: Int }
`);
const user = (depth) => ({ name: "ann", friends: ({ first }) => Array(first ?? 1).fill(user(depth + 1)) });
const roots = {
  query: { me: () => user(0) },
  mutation: { rename: ({ name }) => name },
  subscription: {
    count: async function* ({ to }) {
      for (let number = 1; number <= to; number++) yield { count: number };
    },
    silence: async function* () {
      await new Promise(() => {});
      yield { silence: 0 };
    },
  },
};

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
function onSubscribe(_context, _id, payload) {
  report({ event: "run", query: payload.query });
}
useServer({ schema, roots, onSubscribe }, server);
server.on("listening", () => report({ event: "listening", port: server.address().port }));

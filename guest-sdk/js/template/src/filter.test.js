import assert from "node:assert/strict";
import { test } from "node:test";
import { forward, json, replace, reply } from "wsgate";
import { open } from "wsgate/testing";
import filter from "./filter.js";

test("words are replaced", () => {
  const connection = open(filter);
  assert.deepEqual(connection.message("to-upstream", "teh cat"), replace("the cat"));
  assert.deepEqual(connection.message("to-upstream", "the cat"), forward());
});

test("the count outlives a reload", () => {
  const connection = open(filter, { config: { words: ["a", "b"], replacement: "-" } });
  assert.deepEqual(connection.message("to-upstream", "abc"), replace("--c"));
  connection.reload();
  assert.deepEqual(connection.message("to-upstream", "how many?"), reply(json({ replaced: 2 })));
});

test("a mistake in the configuration names its key", () => {
  assert.throws(() => open(filter, { config: { words: [1] } }), (error) => error === "words[0]: expected a string, got 1");
});

test("an empty token is refused", () => {
  assert.throws(() => open(filter, { request: { query: "token=" } }), (refusal) => refusal.status === 401);
});

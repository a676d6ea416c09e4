// The filter of tests/languages.rs: the same in Rust, JavaScript, Python and C.
import { act, admit, close, drop, field, filter, json, refuse, replace, reply, store, toClient, toUpstream } from "wsgate";

class Four {
  static config = { greeting: field.string({ default: "hello" }), first_count: field.integer({ default: 0, min: 0 }) };
  static interest = { directions: "to-upstream" };

  static open(handshake, config) {
    if (handshake.header("x-refuse") !== undefined) return refuse(403, "not today 😀", { "x-why": "four" });
    return admit(new Four(config), { clientHeaders: { set: { "x-four": "yes" } } });
  }

  constructor(config) {
    this.greeting = config.greeting;
    this.count = config.first_count;
  }

  resume(count) {
    this.count = count ?? this.count;
  }

  save() {
    return this.count;
  }

  onMessage(direction, message) {
    this.count += 1;
    if (typeof message !== "string") return replace(message.reverse());
    switch (message) {
      case "characters":
        return reply("grüße 😀 𝄞");
      case "several":
        return act(toClient("one"), toUpstream("two"), toClient("three 😀"));
      case "drop":
        return drop();
      case "bye":
        return close(4001, "auf Wiedersehen 👋");
      case "count":
        return reply(String(this.count));
      case "fail":
        throw new Error("four failed 😀");
      case "hits":
        return reply(String(store("shared").increment("hits")));
      case "read":
        return reply(store("shared").get("hits")?.bytes ?? new Uint8Array());
      case "denied":
        try {
          store("others").get("hits");
        } catch (error) {
          return reply(error.kind);
        }
    }
    if (message.startsWith("greet ")) return replace(`${this.greeting}, ${message.slice("greet ".length)}`);
    if (message.startsWith("{")) return replace(json({ ...JSON.parse(message), seen: true }));
  }
}

export default filter(Four);

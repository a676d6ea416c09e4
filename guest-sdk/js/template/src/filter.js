import { field, filter, forward, json, refuse, replace, reply } from "wsgate";

/** Puts `replacement` for each of `words` in what clients send. One value is one connection. */
class Words {
  static config = {
    words: field.list(field.string(), { default: ["teh"] }),
    replacement: field.string({ default: "the" }),
  };
  static interest = { directions: "to-upstream", kinds: "text" };

  constructor(handshake, config) {
    if (handshake.queryValue("token") === "") throw refuse(401, { error: "who are you?" });
    this.config = config;
    this.replaced = 0;
  }

  onMessage(direction, message) {
    if (message === "how many?") return reply(json({ replaced: this.replaced }));
    let text = message;
    for (const word of this.config.words) {
      const parts = text.split(word);
      this.replaced += parts.length - 1;
      text = parts.join(this.config.replacement);
    }
    return text === message ? forward() : replace(text);
  }

  // What a connection has counted outlives every reload of this filter.
  save() {
    return { replaced: this.replaced };
  }

  resume(state) {
    this.replaced = state?.replaced ?? 0;
  }
}

export default filter(Words);

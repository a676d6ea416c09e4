import { field, filter, forward, json, refuse, replace, reply } from "wsgate";
import type { Config, Decision, Direction, Handshake, Message } from "wsgate";

const fields = {
  words: field.list(field.string(), { default: ["teh"] }),
  replacement: field.string({ default: "the" }),
};

/** Puts `replacement` for each of `words` in what clients send. One value is one connection. */
class Words {
  static config = fields;
  static interest = { directions: "to-upstream", kinds: "text" } as const;
  private replaced = 0;

  constructor(
    handshake: Handshake,
    private readonly config: Config<typeof fields>,
  ) {
    if (handshake.queryValue("token") === "") throw refuse(401, { error: "who are you?" });
  }

  onMessage(direction: Direction, message: Message): Decision {
    if (typeof message !== "string") return forward();
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

  resume(state: { replaced: number } | null) {
    this.replaced = state?.replaced ?? 0;
  }
}

export default filter(Words);

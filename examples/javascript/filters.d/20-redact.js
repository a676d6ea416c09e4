// Edit this file while a connection is open: its next message meets what you saved.
import { drop, log, replace } from "wsgate";

const CARD = /\b\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b/g;

export default class Redact {
  redacted = 0;

  // What goes back needs no look: it was looked at on its way in.
  onMessageToUpstream(message) {
    if (typeof message !== "string") return drop();
    const text = message.replace(CARD, () => {
      this.redacted += 1;
      return "[redacted]";
    });
    if (text === message) return;
    log.info("redacted", { so_far: this.redacted });
    return replace(text);
  }

  // What the code that comes after this is handed for each open connection.
  save() {
    return { redacted: this.redacted };
  }

  resume(state) {
    this.redacted = state?.redacted ?? 0;
  }
}

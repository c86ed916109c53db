// API keys: a key is exchanged for a token that is valid for a short time. The key itself is kept in memory only.

export class KeyNeeded extends Error {}

const MARGIN_SECONDS = 30;

export class Access {
  #key = "";
  #token = "";
  #expires = 0;

  useKey(key) {
    this.#key = key;
    this.#token = "";
  }

  /** A token that is valid for some seconds yet; "" while no key was asked for. Throws `KeyNeeded`: the key is wrong. */
  async token() {
    if (!this.#key) return "";
    if (!this.#token || this.#expires - MARGIN_SECONDS < Date.now() / 1000) {
      const answer = await fetch("v1/stt/token", {method: "POST", headers: {authorization: `Bearer ${this.#key}`}});
      if (answer.status === 404 || answer.status === 405) return "";
      if (!answer.ok) throw new KeyNeeded("The server does not accept this key.");
      const {token, expires_at: expires} = await answer.json();
      this.#token = token;
      this.#expires = typeof expires === "number" ? expires : Date.parse(expires) / 1000;
    }
    return this.#token;
  }

  /** Whether the server answers 401 without a key: a browser does not tell why a WebSocket was refused. */
  async needed() {
    if (this.#key) return false;
    try {
      return (await fetch("v1/stt/token", {method: "POST"})).status === 401;
    } catch {
      return false;
    }
  }
}

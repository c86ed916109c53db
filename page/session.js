// One recording as one stream of text, over as many connections as it takes.

import {KeyNeeded} from "./access.js";

const KEPT_SECONDS = 60;
const PRE_ROLL_MS = 300;
const QUIET_MS = 2000;
const FINISH_MS = 60_000;
const STEADY_MS = 5000;
const UNSENT_SECONDS = 10;
const LONGEST_WAIT_MS = 30_000;
const FAILURES_A_MINUTE = 3;
const REFUSALS = 3;
const FATAL = new Set([1003, 1007, 1008, 1009]);
const NOT_READY = {
  loading: () => "The server is loading its model",
  dead: () => "The server's engine has failed",
  draining: () => "The server is restarting",
  full: ({max_sessions: most}) => `The server is full: ${most} of ${most} sessions are open`,
  saturated: () => "The server is too busy",
};

/**
 * Events of `on`: `state` (text, connected), `message` (a message of the server, its times in ms of the recording),
 * `retract` (segment: its audio is sent again), `lost` (ms of audio), `end` (error or null; error.key: a key is needed).
 */
export class Session {
  constructor({rate, channels, language, offsetMs, access, on}) {
    Object.assign(this, {rate, channels, language, offsetMs, access, on});
    this.kept = [];
    this.keptStart = 0; // first frame kept
    this.written = 0; // frames recorded
    this.base = 0; // frame at which the connection's audio begins
    this.pending = []; // starts (ms) of utterances without a final
    this.provisional = null;
    this.failures = [];
    this.refusals = 0;
    this.waits = 0;
    this.segments = 0;
    this.firstSegment = 0;
    this.callId = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
    this.#connect();
  }

  /** Send samples (interleaved) now, or as soon as there is a connection. */
  write(samples) {
    this.kept.push(samples);
    this.written += samples.length / this.channels;
    if (this.open) this.#send(samples);
    while (this.written - this.keptStart > KEPT_SECONDS * this.rate) this.#forgetFirst();
  }

  /** No more samples come: `end` follows the last final. */
  finish() {
    this.finishing = true;
    this.deadline = setTimeout(() => this.#end(new Error("The last words did not come in time.")), FINISH_MS);
    if (this.open) this.#sendFinish();
  }

  /** End at once, without the last words. */
  abort() {
    this.#end(null);
  }

  #send(samples) {
    this.socket.send(samples);
    if (this.socket.bufferedAmount > UNSENT_SECONDS * this.rate * this.channels * 2) {
      // A network that is gone may take minutes to show it.
      this.socket.onclose = null;
      this.socket.close();
      this.#closed(1006);
    }
  }

  async #connect() {
    try {
      const wait = await this.#notReady();
      if (this.ended) return;
      if (wait !== null) return this.#later(wait.text, wait.ms);
      const token = await this.access.token();
      if (this.ended) return;
      this.#openSocket(token);
    } catch (error) {
      this.#end(error instanceof KeyNeeded ? Object.assign(error, {key: true}) : error);
    }
  }

  /** Why the server takes no session now, and how long to wait; null: it takes one. */
  async #notReady() {
    let answer;
    try {
      answer = await fetch("health/ready", {cache: "no-store"});
    } catch {
      return {text: "The server cannot be reached", ms: this.#backOff()};
    }
    if (answer.ok) return null;
    const ms = Math.max(this.#backOff(), 1000 * (Number(answer.headers.get("retry-after")) || 0));
    const facts = await answer.json().catch(() => ({}));
    return {text: NOT_READY[facts.status]?.(facts) ?? `The server answers ${answer.status}`, ms};
  }

  #openSocket(token) {
    const query = new URLSearchParams({
      call_id: this.callId, sample_rate: this.rate, language: this.language, words: true, events: "speech,level",
    });
    if (this.channels > 1) query.set("channels", this.channels);
    const url = new URL(`v1/stt/ws?${query}`, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, token ? ["stt", `stt-token.${token}`] : []);
    this.socket = socket;
    socket.onmessage = ({data}) => this.#take(JSON.parse(data));
    socket.onclose = ({code}) => this.#closed(code);
  }

  #take(received) {
    const message = later(received, Math.round((this.base * 1000) / this.rate));
    switch (message.type) {
      case "ready":
        return this.#opened();
      case "error":
        this.error = message;
        return;
      case "finished":
        return this.#end(null);
      case "speech_started":
        this.pending.push(message.start_ms - PRE_ROLL_MS);
        break;
      case "level":
        if (!message.voiced) this.#forgetBefore(Math.min(message.end_ms - QUIET_MS, ...this.pending));
        break;
      case "partial":
        message.segment = this.firstSegment + message.segment_seq;
        break;
      case "final":
        this.#settle(message);
    }
    this.on.message(later(message, this.offsetMs));
  }

  #settle(final) {
    final.segment = this.firstSegment + final.segment_seq;
    this.segments = Math.max(this.segments, final.segment + 1);
    if (final.reason === "drain" || final.reason === "closing") {
      final.provisional = true;
      if (final.text) this.provisional = {segment: final.segment, startMs: final.start_ms - PRE_ROLL_MS};
      return;
    }
    this.pending = this.pending.filter((start) => start > final.start_ms);
    this.#forgetBefore(final.end_ms);
  }

  #opened() {
    this.open = true;
    this.openedAt = Date.now();
    this.refusals = 0;
    this.error = null;
    this.pending = [];
    this.#resendFrom();
    this.firstSegment = this.segments;
    this.on.state("Listening", true);
    if (this.finishing) this.#sendFinish();
  }

  /** Send what is kept in messages of 1 s: from where the provisional final began, or from the last one's end. */
  #resendFrom() {
    const {provisional} = this;
    if (provisional) {
      this.provisional = null;
      const from = Math.max(0, Math.floor((provisional.startMs * this.rate) / 1000));
      if (from >= this.keptStart) {
        this.segments = provisional.segment;
        this.on.retract(provisional.segment);
      }
    }
    if (this.gap) this.on.lost(Math.round((this.gap * 1000) / this.rate));
    this.gap = 0;
    this.base = this.keptStart;
    const size = this.rate * this.channels;
    const all = concatenated(this.kept);
    for (let first = 0; first < all.length; first += size) this.socket.send(all.subarray(first, first + size));
  }

  #sendFinish() {
    this.socket.send('{"type":"finish"}');
    this.on.state("Finishing", true);
  }

  async #closed(code) {
    const wasOpen = this.open;
    this.open = false;
    clearTimeout(this.timer);
    if (this.ended) return;
    if (FATAL.has(code)) return this.#end(new Error(this.error?.message ?? `The server closed the connection (${code}).`));
    if (!wasOpen && !this.error && ++this.refusals) {
      if (await this.access.needed()) return this.#end(Object.assign(new KeyNeeded("key"), {key: true}));
      if (this.refusals >= REFUSALS) {
        return this.#end(new Error("The server refuses the connection. A proxy in between may not pass WebSockets on."));
      }
    }
    if (code === 1011 && !this.#mayFailAgain()) return this.#end(new Error("The server fails again and again; its log says why."));
    const steady = wasOpen && Date.now() - this.openedAt > STEADY_MS;
    if (steady) this.waits = 0;
    this.#later("Connection lost", steady && code !== 1013 ? 0 : this.#backOff());
  }

  #mayFailAgain() {
    const now = Date.now();
    this.failures = [...this.failures.filter((at) => now - at < 60_000), now];
    return this.failures.length <= FAILURES_A_MINUTE;
  }

  #backOff() {
    return Math.min(LONGEST_WAIT_MS, 1000 * 2 ** this.waits++) * (0.75 + Math.random() / 2);
  }

  #later(text, ms) {
    if (this.ended) return;
    this.on.state(`${text}. Trying again${ms > 1500 ? ` in ${Math.round(ms / 1000)} s` : ""}`, false);
    this.timer = setTimeout(() => this.#connect(), ms);
  }

  #forgetBefore(ms) {
    const frame = Math.floor((ms * this.rate) / 1000);
    while (this.kept.length && this.keptStart + this.kept[0].length / this.channels <= frame) this.#drop();
  }

  /** Drop the oldest audio for want of room; without a connection it is lost. */
  #forgetFirst() {
    if (!this.open) this.gap = (this.gap ?? 0) + this.kept[0].length / this.channels;
    this.#drop();
  }

  #drop() {
    this.keptStart += this.kept.shift().length / this.channels;
  }

  #end(error) {
    if (this.ended) return;
    this.ended = true;
    this.open = false;
    clearTimeout(this.timer);
    clearTimeout(this.deadline);
    if (this.socket) {
      this.socket.onclose = this.socket.onmessage = null;
      this.socket.close();
    }
    this.on.end(error);
  }
}

/** The message, or word, with times that count from `ms` earlier. */
function later(message, ms) {
  const moved = {...message};
  for (const name of ["start_ms", "end_ms"]) if (name in moved) moved[name] += ms;
  if (Array.isArray(moved.words)) moved.words = moved.words.map((word) => later(word, ms));
  return moved;
}

function concatenated(chunks) {
  const all = new Int16Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

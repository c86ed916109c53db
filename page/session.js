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
  full: ({sessions, max_sessions: most}) => `The server is full: ${sessions} of ${most} sessions are open`,
  saturated: () => "The server is too busy",
};

class Channel {
  pending = []; // starts (ms) of utterances without a final
  provisional = null;
  segments = 0;
  firstSegment = 0; // of the connection
  neededMs = 0; // audio before is not sent again

  settle(ms) {
    this.neededMs = Math.max(this.neededMs, ms);
  }
}

/**
 * Events of `on`: `state` (text, connected), `message` (a message of the server, its times in ms of the recording),
 * `retract` (channel, segment: its audio comes again), `lost` (ms), `end` (error or null; error.key: a key is needed).
 */
export class Session {
  constructor({rate, channels, language, offsetMs, access, on}) {
    Object.assign(this, {rate, language, offsetMs, access, on});
    this.channels = Array.from({length: channels}, () => new Channel());
    this.kept = []; // interleaved
    this.keptStart = 0; // first sample kept
    this.written = 0; // samples recorded
    this.base = 0; // sample at which the connection's audio begins
    this.failures = [];
    this.refusals = 0;
    this.waits = 0;
    this.callId = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
    this.#connect();
  }

  /** Send interleaved samples now, or as soon as there is a connection. */
  write(samples) {
    this.kept.push(samples);
    this.written += this.#length(samples);
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
    const silent = Date.now() - this.receivedAt > 1000 * UNSENT_SECONDS;
    if (silent && this.socket.bufferedAmount > UNSENT_SECONDS * this.rate * this.channels.length * 2) {
      // A network that is gone may take minutes to show it. A server that is only late reports levels meanwhile.
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
    const facts = await answer.json().catch(() => ({}));
    // A channel counts as a session.
    const full = facts.sessions + this.channels.length > facts.max_sessions;
    if (answer.ok && !full) return null;
    const ms = Math.max(this.#backOff(), 1000 * (Number(answer.headers.get("retry-after")) || 0));
    const status = answer.ok ? "full" : facts.status;
    return {text: NOT_READY[status]?.(facts) ?? `The server answers ${answer.status}`, ms};
  }

  #openSocket(token) {
    const query = new URLSearchParams({
      call_id: this.callId, sample_rate: this.rate, channels: this.channels.length, language: this.language, words: true,
      events: "speech,level",
    });
    const url = new URL(`v1/stt/ws?${query}`, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, token ? ["stt", `stt-token.${token}`] : []);
    this.socket = socket;
    socket.onmessage = ({data}) => this.#take(JSON.parse(data));
    socket.onclose = ({code}) => this.#closed(code);
  }

  #take(received) {
    this.receivedAt = Date.now();
    const message = later(received, Math.round((this.base * 1000) / this.rate));
    const channel = this.channels[message.channel ?? 0];
    switch (message.type) {
      case "ready":
        return this.#opened();
      case "error":
        this.error = message;
        return;
      case "finished":
        return this.#end(null);
      case "speech_started":
        channel.pending.push(message.start_ms - PRE_ROLL_MS);
        break;
      case "level":
        if (!message.voiced) channel.settle(Math.min(message.end_ms - QUIET_MS, ...channel.pending));
        this.#forgetSettled();
        break;
      case "partial":
        message.segment = channel.firstSegment + message.segment_seq;
        break;
      case "final":
        this.#settle(message, channel);
    }
    this.on.message(later(message, this.offsetMs));
  }

  #settle(final, channel) {
    final.segment = channel.firstSegment + final.segment_seq;
    channel.segments = Math.max(channel.segments, final.segment + 1);
    if (final.reason === "drain" || final.reason === "closing") {
      final.provisional = true;
      if (final.text) channel.provisional = {segment: final.segment, startMs: final.start_ms - PRE_ROLL_MS};
      return;
    }
    channel.pending = channel.pending.filter((start) => start > final.start_ms);
    channel.settle(final.end_ms);
    this.#forgetSettled();
  }

  #opened() {
    this.open = true;
    this.openedAt = Date.now();
    this.refusals = 0;
    this.error = null;
    this.channels.forEach((channel, number) => this.#reopen(channel, number));
    this.#resend();
    this.on.state("Listening", true);
    if (this.finishing) this.#sendFinish();
  }

  #reopen(channel, number) {
    const {provisional} = channel;
    channel.pending = [];
    channel.provisional = null;
    if (provisional && this.#sampleAt(Math.max(0, provisional.startMs)) >= this.keptStart) {
      channel.segments = provisional.segment;
      this.on.retract(number, provisional.segment);
    }
    channel.firstSegment = channel.segments;
  }

  /** Send what is kept, a second a message; silence where a channel needs none, so that no final comes twice. */
  #resend() {
    if (this.gap) this.on.lost(Math.round((this.gap * 1000) / this.rate));
    this.gap = 0;
    this.base = this.keptStart;
    const all = concatenated(this.kept);
    const count = this.channels.length;
    this.channels.forEach(({neededMs}, number) => {
      const end = (this.#sampleAt(neededMs) - this.base) * count;
      for (let at = number; at < end; at += count) all[at] = 0;
    });
    const second = this.rate * count;
    for (let at = 0; at < all.length; at += second) this.socket.send(all.subarray(at, at + second));
  }

  #sampleAt(ms) {
    return Math.floor((ms * this.rate) / 1000);
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

  /** Drop the audio that no channel needs any more. */
  #forgetSettled() {
    const sample = this.#sampleAt(Math.min(...this.channels.map(({neededMs}) => neededMs)));
    while (this.kept.length && this.keptStart + this.#length(this.kept[0]) <= sample) this.#drop();
  }

  #length(chunk) {
    return chunk.length / this.channels.length;
  }

  /** Drop the oldest audio for want of room; without a connection it is lost. */
  #forgetFirst() {
    if (!this.open) this.gap = (this.gap ?? 0) + this.#length(this.kept[0]);
    this.#drop();
  }

  #drop() {
    this.keptStart += this.#length(this.kept.shift());
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

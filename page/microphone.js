// The microphone as 16-bit samples, its channels interleaved.

export class MicrophoneRefused extends Error {
  /** `help`: what the user can do. */
  constructor(message, help = "") {
    super(message);
    this.help = help;
  }
}

const REASONS = {
  NotAllowedError: ["The browser does not let this page use the microphone.",
    "Allow it in the page's settings, beside the address, and press the button again."],
  NotFoundError: ["This device has no microphone.", "Connect one and press the button again."],
  NotReadableError: ["The microphone cannot be read.", "Another program may use it."],
};

export class Microphone {
  /** Opens the microphone. `onSamples` gets an Int16Array every 40 ms; `onEnd` is called if the device goes away. */
  static async open(channels, onSamples, onEnd) {
    if (!navigator.mediaDevices?.getUserMedia) throw insecure();
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({audio: {
        channelCount: channels,
        // Echo cancellation mixes the channels to one.
        echoCancellation: channels === 1,
        autoGainControl: channels === 1,
        noiseSuppression: false,
      }});
    } catch (error) {
      const [message, help] = REASONS[error.name] ?? ["The microphone cannot be used.", error.message];
      throw new MicrophoneRefused(message, help);
    }
    const microphone = new Microphone(stream);
    try {
      await microphone.#start(channels, onSamples);
    } catch (error) {
      await microphone.stop();
      throw error;
    }
    stream.getAudioTracks()[0].addEventListener("ended", onEnd);
    return microphone;
  }

  constructor(stream) {
    this.stream = stream;
    // The device's own rate: not every browser records at another one. The server takes up to 48 kHz.
    this.context = new AudioContext();
    if (this.context.sampleRate > 48000) {
      this.context.close();
      this.context = new AudioContext({sampleRate: 48000});
    }
  }

  get rate() {
    return this.context.sampleRate;
  }

  async #start(channels, onSamples) {
    const {context} = this;
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    this.node = new AudioWorkletNode(context, "recorder", {
      numberOfOutputs: 0,
      channelCount: channels,
      channelCountMode: "explicit",
      processorOptions: {channels},
    });
    this.ended = new Promise((resolve) => {
      this.node.port.onmessage = ({data}) => (data === null ? resolve() : onSamples(data));
    });
    context.createMediaStreamSource(this.stream).connect(this.node);
    // A phone call suspends it.
    context.onstatechange = () => context.state === "suspended" && context.resume();
    await context.resume();
  }

  /** Delivers the last samples and lets the device go. */
  stop() {
    this.stopped ??= this.#stop();
    return this.stopped;
  }

  async #stop() {
    if (this.node) {
      this.node.port.postMessage("end");
      await Promise.race([this.ended, new Promise((resolve) => setTimeout(resolve, 500))]);
    }
    for (const track of this.stream.getTracks()) track.stop();
    this.context.onstatechange = null;
    await this.context.close();
  }
}

function insecure() {
  const port = location.port ? `:${location.port}` : "";
  return new MicrophoneRefused(
    `Browsers give a page the microphone only over HTTPS or on localhost, and this page came from ${location.origin}.`,
    `On the server's own machine open http://localhost${port}${location.pathname}. From another machine forward the port, `
    + `ssh -L ${location.port || 80}:localhost:${location.port || 80} ${location.hostname}, and open http://localhost${port} there; `
    + "or put a proxy with a certificate in front of the server. Files can be transcribed without all this.",
  );
}

// Runs on the audio thread, which a tab in the background keeps.

const MESSAGE_SECONDS = 0.04;

class Recorder extends AudioWorkletProcessor {
  constructor({processorOptions: {channels}}) {
    super();
    this.channels = channels;
    this.length = Math.round(sampleRate * MESSAGE_SECONDS) * channels;
    this.begin();
    this.ended = false;
    this.port.onmessage = () => this.end();
  }

  begin() {
    this.samples = new Int16Array(this.length); // interleaved
    this.filled = 0;
  }

  end() {
    this.ended = true;
    this.port.postMessage(this.samples.slice(0, this.filled));
    this.port.postMessage(null);
  }

  process([input]) {
    if (this.ended) return false;
    // A muted microphone may deliver no channel at all; its time passes all the same.
    const frames = input[0]?.length ?? 128;
    for (let frame = 0; frame < frames; frame++) {
      for (let channel = 0; channel < this.channels; channel++) {
        const sample = (input[channel] ?? input[0])?.[frame] ?? 0;
        this.samples[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
      }
      if (this.filled === this.length) {
        this.port.postMessage(this.samples, [this.samples.buffer]);
        this.begin();
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);

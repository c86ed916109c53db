// OpenAI's JavaScript client: node client.mjs BASE_URL KEY WAV_24_KHZ (files | ws | browser). Prints a JSON line each.
import { createReadStream, readFileSync } from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const [base, key, file, mode] = process.argv.slice(2);
const print = (name, value) => console.log(JSON.stringify({ [name]: value }));
const client = new OpenAI({ apiKey: key, baseURL: `${base}/v1`, maxRetries: 0 });

async function files() {
  const ask = (options) =>
    client.audio.transcriptions.create({ file: createReadStream(file), model: "whisper-1", ...options });
  print("json", await ask({}));
  print("srt", await ask({ response_format: "srt" }));
  print("verbose", await ask({ response_format: "verbose_json", timestamp_granularities: ["word"] }));
  const deltas = [];
  for await (const event of await ask({ stream: true, chunking_strategy: { type: "server_vad", threshold: 0.5 } })) {
    deltas.push(event.delta ?? event.text);
  }
  print("streamed", deltas);
}

async function realtime() {
  let connect = () => new OpenAIRealtimeWS({ intent: "transcription" }, client);
  if (mode === "browser") {
    const secret = await client.realtime.clientSecrets.create({ session: { type: "transcription" } });
    const page = new OpenAI({ apiKey: secret.value, baseURL: `${base}/v1`, dangerouslyAllowBrowser: true });
    connect = () => new OpenAIRealtimeWebSocket({ intent: "transcription" }, page);
  }
  const connection = connect();
  connection.on("error", (error) => {
    print("error", error.message);
    process.exit(1);
  });
  await new Promise((resolve) => connection.socket.addEventListener("open", resolve));
  print("subprotocol", connection.socket.protocol);
  const input = { format: { type: "audio/pcm", rate: 24000 }, turn_detection: { type: "server_vad" } };
  connection.send({ type: "session.update", session: { type: "transcription", audio: { input } } });
  const kinds = [];
  const completed = new Promise((resolve) =>
    connection.on("event", (event) => {
      kinds.push(event.type);
      if (event.type.endsWith("transcription.completed")) resolve(event);
    }),
  );
  const audio = Buffer.concat([readFileSync(file).subarray(44), Buffer.alloc(72_000)]);
  for (let first = 0; first < audio.length; first += 2_400) {
    const piece = audio.subarray(first, first + 2_400).toString("base64");
    connection.send({ type: "input_audio_buffer.append", audio: piece });
    await new Promise((resolve) => setTimeout(resolve, 12));
  }
  print("completed", (await completed).transcript);
  print("kinds", kinds.filter((kind) => !kind.endsWith(".delta")));
  connection.close();
}

await (mode === "files" ? files() : realtime());

"""Reads and checks the environment; gives each component its own options. Used once, by `app`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from backends import auto
from backends.qwen3.options import Qwen3Options
from backends.registry import BackendOptions
from backends.whisper.options import Device, WhisperOptions
from config_values import PREFIX, SettingsRefused, as_json_object, as_prefix, cores, refusal_sentence, split_by_commas
from inference.segmenter import SegmenterOptions
from inference.vad import VadOptions
from inference.vad_factory import Detector
from observability.masking import Json, masked
from observability.unknown_settings import unknown_settings
from transport.api_keys import Keyring, KeysRefused
from transport.app_context import AccessOptions, SocketOptions
from transport.forwarded import Network
from transport.queue_options import QueueOptions
from transport.serving import ServingOptions
from transport.uploads import UploadOptions

OF_THE_CLIENT = frozenset({"STT_SERVER", "STT_API_KEY"})
"""Variables of the program `stt`: no settings of the server, and no mistakes."""

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
ComputeType = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"
]
"""Compute types of CTranslate2 4."""


class Settings(BaseSettings):
    """Every setting, as environment variables with the prefix STT_."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True)

    backend: str = "qwen3"
    """Engine: `qwen3`, `whisper`, `mock`, or `auto`, which chooses qwen3 or whisper by this machine."""
    host: Annotated[str, Field(min_length=1)] = "0.0.0.0"  # noqa: S104 - a container is reached from outside
    """Address that `python app.py` listens on; `::`: every IPv6 and IPv4 address."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port that `python app.py` listens on; 0: any free one."""
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = 75
    """Seconds that `python app.py` keeps an idle HTTP connection open; set it longer than the proxy's own time."""
    path_prefix: Annotated[str, AfterValidator(as_prefix)] = ""
    """Path under which a proxy serves this server, such as `/speech`. The proxy may strip it or not."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(split_by_commas)] = ()
    """Addresses or networks of proxies, separated by commas, whose X-Forwarded-Host and X-Forwarded-For are trusted."""
    page: bool = True
    """Whether `GET /` serves the page for browsers."""
    log_level: Annotated[LogLevel, BeforeValidator(lambda value: str(value).upper())] = "INFO"
    """Lowest level of log lines, in upper or lower case. Libraries never write below INFO."""

    api_keys: str = ""
    """Who may use the server: `name=key`, separated by commas; or `@FILE` with one a line, read again when it changes.
    Empty: everybody. Names appear in metrics and logs. A key has 16 characters or more, and no comma."""
    api_key_in_query: bool = False
    """Whether a key may be in the query as `api_key`, where proxies and browser histories keep it."""
    metrics_key_required: bool = False
    """Whether `/metrics` needs a key."""
    max_key_sessions: Annotated[int, Field(ge=0)] = 0
    """Most sessions of one key, counted as for STT_MAX_SESSIONS; more are refused with 429. 0: no limit."""
    token_secret: str = ""
    """Secret that signs short-lived tokens, the same on all servers. Empty: one is derived from each key."""
    tls_cert: Path | None = None
    """PEM file of the certificate and its chain; `python app.py` then serves HTTPS."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key."""

    max_sessions: Annotated[int, Field(ge=1)] = 256
    """Most WebSocket sessions; more are refused with 503. A session of two channels counts as two."""
    idle_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300
    """Seconds after which a client that sends nothing, not even a ping, is closed with 1008; 0: never."""
    max_silent_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600
    """Seconds after which a client that sends no audio, only pings or keepalives, is closed with 1008; 0: never."""
    send_timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    """Seconds after which a client that does not read is disconnected."""
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10
    """Seconds after SIGTERM in which open utterances get their finals."""
    lame_duck_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Seconds after SIGTERM in which open calls go on and new ones are refused, before STT_DRAIN_SECONDS begin."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_by_commas)] = ()
    """Browser origins that are admitted besides the server's own, separated by commas; `*`: all."""

    in_queue_seconds: Annotated[float, Field(ge=3, le=600)] = 30
    """Most seconds of a connection's audio that wait. Then a live client loses the oldest, and a faster one is
    throttled."""
    in_queue_size: Annotated[int, Field(ge=1)] = 20_000
    """Most messages of a connection that wait, whatever their length. Bounds the memory."""
    in_queue_max_drops: Annotated[int, Field(ge=0)] = 500
    """Units of 20 ms of live audio that may be dropped while the queue is never empty; after more comes close 1013."""
    out_queue_size: Annotated[int, Field(ge=3)] = 50
    """Most messages of a connection that wait to be sent."""

    vad: Detector = "energy"
    """Voice activity detector: `energy`, or `silero`, a small neural network, which needs its extra."""
    vad_threshold: Annotated[float, Field(ge=0, le=32768)] = 300
    """RMS in 16-bit units below which no frame is voiced. Noise in the room raises it. Only for `energy`."""
    vad_silence_ms: Annotated[int, Field(ge=100, le=5_000)] = 500
    """Silence in ms that ends an utterance."""
    vad_max_segment_ms: Annotated[int, Field(ge=1_000, le=600_000)] = 30_000
    """Longest utterance in ms. A longer one is cut at the quietest 100 ms of its last 5 s."""

    max_upload_bytes: Annotated[int, Field(ge=1)] = 104_857_600
    """Most bytes of an HTTP upload; more get 413. One over 1 MiB is kept in a file without a name in TMPDIR while it is
    served, so the disk must hold STT_HTTP_UPLOAD_BYTES. If there is no such folder it gets 507."""
    max_audio_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 7_200
    """Most seconds of audio in an HTTP upload; more get 413."""
    http_concurrency: Annotated[int, Field(ge=0)] = 0
    """HTTP transcriptions at once; further uploads wait. 0: twice the cores."""
    http_uploads: Annotated[int, Field(ge=1)] = 64
    """Most HTTP uploads received, waiting or transcribed at once; more get 503."""
    http_upload_bytes: Annotated[int, Field(ge=1)] = 1_073_741_824
    """Most bytes of these uploads together, counted as they come; more get 503. At least STT_MAX_UPLOAD_BYTES."""

    references: Path = Path(__file__).parent / "references"
    """Folder of the recordings that `mock` replays."""
    model_dir: Annotated[Path, AfterValidator(Path.expanduser)] = models.default_model_dir()
    """Folder of the models that `python -m models pull` fetches."""
    whisper_model: str = "base"
    """whisper: name of a model in `python -m models list`, or the folder of one in CTranslate2's format."""
    whisper_device: Device = "auto"
    """whisper: `cpu`, `cuda`, or `auto`, a GPU if there is one."""
    whisper_compute_type: ComputeType = "auto"
    """whisper: number type of the weights, as CTranslate2 names them; `auto`: float16 on a GPU, int8 on a CPU."""
    whisper_beam_size: Annotated[int, Field(ge=1, le=20)] = 5
    """whisper: beam size of finals; partials are decoded greedily."""
    whisper_draft_model: str = ""
    """whisper: a smaller model for partials, given like STT_WHISPER_MODEL; none: STT_WHISPER_MODEL decodes them too."""
    whisper_threads: Annotated[int, Field(ge=0)] = 0
    """whisper: cores to decode on; 0: all."""

    vllm_model: str = "Qwen/Qwen3-ASR-1.7B"
    """qwen3: the model's name, or a folder."""
    vllm_revision: str = ""
    """qwen3: commit, tag or branch of the model on the Hugging Face hub; empty: the newest."""
    vllm_engine_args: Annotated[dict[str, JsonValue], NoDecode, BeforeValidator(as_json_object)] = {}
    """qwen3: arguments of vLLM's engine, as a JSON object such as `{"dtype": "half"}`; they replace ours."""
    vllm_gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.7
    """qwen3: part of the GPU's memory to use, 0 to 1."""
    vllm_max_tokens: Annotated[int, Field(ge=0)] = 0
    """qwen3: longest text of an utterance, in tokens; 0: derived from STT_VAD_MAX_SEGMENT_MS."""
    vllm_max_inference_batch_size: Annotated[int, Field(ge=1)] = 32
    """qwen3: pieces of files decoded at once."""
    vllm_max_num_seqs: Annotated[int, Field(ge=1)] = 256
    """qwen3: most decodes in the engine at once, which bounds its live streams."""
    streaming_chunk_size_sec: Annotated[float, Field(ge=0.1, le=10)] = 0.5
    """qwen3: seconds of speech between two refreshes of the partial text."""

    def shown(self) -> dict[str, Json]:
        """Every setting by its variable's name, for the log. Secrets are masked."""
        return {f"{PREFIX}{name}".upper(): masked(name, value) for name, value in self.model_dump(mode="json").items()}

    @classmethod
    def unknown(cls, environment: Mapping[str, str]) -> list[str]:
        """One sentence for each variable that looks like a setting and is none."""
        names = [f"{PREFIX}{name}".upper() for name in cls.model_fields]
        return unknown_settings(environment, PREFIX, [*names, *OF_THE_CLIENT])

    def serving(self) -> ServingOptions:
        """Options of uvicorn under `python app.py`."""
        address = self.host, self.port, self.keep_alive_seconds, self.tls_cert, self.tls_key
        return ServingOptions(*address, uvicorn_trusts_proxies=not self.trusted_proxies)

    def access(self) -> AccessOptions:
        """Who may use the server; reads the file of keys, if there is one.

        Raises:
            SettingsRefused: the keys cannot be used.
        """
        try:
            keys = Keyring(self.api_keys, self.token_secret)
        except KeysRefused as refusal:
            raise SettingsRefused(refusal_sentence("api_keys", self.api_keys, str(refusal))) from refusal
        return AccessOptions(keys, self.api_key_in_query, self.metrics_key_required)

    def with_engine_chosen(self, report: Callable[[str], None]) -> Settings:
        """These settings with an engine in place of `auto`; `report` is called with the line that names it.

        Raises:
            BackendUnavailable: no engine can run here.
        """
        if self.backend != auto.AUTO:
            return self
        model = self.whisper_model if "whisper_model" in self.model_fields_set else None
        choice = auto.choose(auto.facts(self.vllm_model, self.vllm_revision, model, self.model_dir))
        report(choice.line)
        chosen = {"backend": choice.backend} | ({"whisper_model": choice.model} if choice.model else {})
        return self.model_copy(update=chosen)

    def queues(self) -> QueueOptions:
        """Bounds of a connection's queues."""
        return QueueOptions(
            in_seconds=self.in_queue_seconds,
            max_drops=self.in_queue_max_drops,
            in_messages=self.in_queue_size,
            out_messages=self.out_queue_size,
        )

    def socket(self) -> SocketOptions:
        """Time limits of a connection."""
        return SocketOptions(self.idle_seconds, self.max_silent_seconds, self.send_timeout_seconds)

    def segmenter(self) -> SegmenterOptions:
        """When an utterance ends."""
        return SegmenterOptions(self.vad_silence_ms, self.vad_max_segment_ms)

    def voice(self) -> VadOptions:
        """When a frame is voiced."""
        return VadOptions(self.vad_threshold)

    def uploads(self) -> UploadOptions:
        """Bounds of an upload."""
        return UploadOptions(self.max_upload_bytes, self.http_upload_bytes, self.max_audio_seconds)

    def http_threads(self) -> int:
        """HTTP transcriptions at once."""
        return self.http_concurrency or 2 * cores()

    def whisper(self) -> WhisperOptions:
        """The whisper engine's models and its share of the machine."""
        return WhisperOptions(
            model=self._model_folder(self.whisper_model),
            draft_model=self._model_folder(self.whisper_draft_model) if self.whisper_draft_model else None,
            device=self.whisper_device,
            compute_type=self.whisper_compute_type,
            beam_size=self.whisper_beam_size,
            threads=self.whisper_threads,
        )

    def check_whisper(self) -> None:
        """Check that whisper's models are on disk.

        Raises:
            SettingsRefused: one is not; the text names the setting and what to do.
        """
        for setting in ("whisper_model", "whisper_draft_model"):
            name = getattr(self, setting)
            try:
                if name or setting == "whisper_model":
                    models.locate(name, self.model_dir)
            except models.ModelError as fault:
                raise SettingsRefused(refusal_sentence(setting, name, str(fault))) from fault

    def check_references(self) -> None:
        """Check that there are recordings for mock.

        Raises:
            SettingsRefused: there are none.
        """
        if not any(self.references.glob("*.wav")):
            reason = "it has no WAV files" if self.references.is_dir() else "there is no such folder"
            raise SettingsRefused(refusal_sentence("references", self.references, reason))

    def _model_folder(self, name: str) -> Path:
        """The folder of the model, whether it exists or not."""
        return models.folder(name, self.model_dir) if models.find(name) else Path(name).expanduser()

    def backends(self) -> BackendOptions:
        """Every engine's own options."""
        return BackendOptions(
            references=self.references,
            whisper=self.whisper(),
            qwen3=Qwen3Options(
                model=self.vllm_model,
                revision=self.vllm_revision,
                engine_args=self.vllm_engine_args,
                gpu_memory=self.vllm_gpu_memory,
                max_tokens=self.vllm_max_tokens,
                max_inference_batch_size=self.vllm_max_inference_batch_size,
                max_num_seqs=self.vllm_max_num_seqs,
                refresh_seconds=self.streaming_chunk_size_sec,
                longest_seconds=self.vad_max_segment_ms / 1000,
            ),
        )


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsRefused: a value is not usable.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsRefused(refusal_sentence(str(first["loc"][0]), first["input"], first["msg"])) from error
    conflict = settings.backends().qwen3.conflict()
    if conflict is not None and settings.backend in ("qwen3", "auto"):
        raise SettingsRefused(conflict)
    return settings

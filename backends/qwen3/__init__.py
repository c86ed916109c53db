"""The GPU engine: Qwen3-ASR in one embedded vLLM that all streams share."""

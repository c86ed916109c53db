"""WebSocket and HTTP: the only package that imports asyncio, janus, FastAPI or uvicorn."""

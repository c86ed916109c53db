"""Sockets: the only room with asyncio, janus, FastAPI and uvicorn."""

"""`python -m stt_client` is `stt`."""

from stt_client.cli.main import main

if __name__ == "__main__":
    main()

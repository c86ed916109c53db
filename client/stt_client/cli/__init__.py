"""The command line `stt`; needs the extra `cli`."""

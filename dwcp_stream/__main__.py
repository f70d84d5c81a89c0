"""`python -m dwcp_stream` is the same as `dwcp-stream`."""

from dwcp_stream.cli.main import main

if __name__ == "__main__":
    main()

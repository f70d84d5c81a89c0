"""The live page of all streams: a process of its own that reads what the daemon publishes and asks the workers.

`board`, `tracks` and `scrape` turn records and answers into what is shown; `process` reads and asks, `server` hands it
to browsers. What browsers run is in `static/`.
"""

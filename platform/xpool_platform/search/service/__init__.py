"""The service on an index: Ray Serve with FastAPI, and the page."""

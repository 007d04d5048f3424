"""The record of a run."""

import logging
import os

# read when mlflow is imported, which only the modules here do
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# else a client fetches artifacts from the server's own object store, which it may not reach
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
# a model is not made of what lies in the working directory
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
for chatty in ("alembic", "urllib3.connectionpool"):
    logging.getLogger(chatty).setLevel(logging.ERROR)

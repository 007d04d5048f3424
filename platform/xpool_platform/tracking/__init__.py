"""The record of a run."""

import os

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# a model is not made of what lies in the working directory
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")

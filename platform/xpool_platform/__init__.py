"""The experiment platform around X-Pool: Ray for data, training and sweeps, MLflow for runs."""

"""Flower app: a relay at each site, a checking server, and their simulation on one machine."""

import os

# Flower reads these when it is imported. Without them it reports usage, looks for updates and
# installs packages while it runs; hospital networks allow none of it. MONAI imports MLflow, which
# reports usage too.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

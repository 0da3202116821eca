"""Records of runs outside their folders: MLflow, ClearML, Weights & Biases."""

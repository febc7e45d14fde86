"""What the model registry keeps: bundles and sentence encoders, and how it is reached."""

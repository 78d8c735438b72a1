"""Networks on devices: one file a runtime."""

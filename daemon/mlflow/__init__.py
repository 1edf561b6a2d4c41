"""Tells an MLflow model registry which firmware there is: an export that nothing here depends on."""

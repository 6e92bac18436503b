"""The controllers of the cloud controller manager."""

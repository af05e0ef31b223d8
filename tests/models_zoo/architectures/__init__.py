"""Tests of networks and of the adapters to other packages."""

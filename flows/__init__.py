"""Campaigns: one Prefect flow a file, each of which reads like its workflow diagram."""

"""Lowering: a template becomes polars expressions over whole columns; README.md explains how."""

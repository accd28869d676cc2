"""How an activity meets Prefect: results, engine, locks, log."""

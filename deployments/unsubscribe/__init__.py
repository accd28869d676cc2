"""The page behind every unsubscribe link: `python -m deployments.unsubscribe`."""

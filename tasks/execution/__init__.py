"""Activities that steer and report the workflow."""

"""What a run needs around it: the sandbox partner and the local run."""

"""Flow runs without heartbeats: Prefect waits up to a second at the end of each for the thread that sends them."""

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY

NO_HEARTBEATS = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
"""For `temporary_settings`: no variable of the environment can say it."""

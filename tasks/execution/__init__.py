"""Activities that steer and report the workflow.

What Prefect has is not wrapped. Scheduler: a deployment's schedules (cron and RRULE, time zone, expiry).
Fork: `activity.submit(...)` starts a branch beside the flow. AND-join: `prefect.futures.wait([...])`, and then
the `result()` of the main set and of every branch whose failure should stop the join. Start and End: the flow.
"""

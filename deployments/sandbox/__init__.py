"""The sandbox partner: what a campaign needs to run without an account or the internet.

partner: a coupon system on loopback, with real TLS. profiles: made-up profiles. `python -m deployments.sandbox`
serves the partner until it is stopped.
"""

"""The sandbox partner: what a campaign needs to run without an account or the internet.

server: HTTPS on loopback. partner: a coupon system on it. profiles: made-up profiles.
`python -m deployments.sandbox` serves the partner until it is stopped.
"""

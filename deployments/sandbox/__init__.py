"""The sandbox partner: what a campaign needs to run without an account or the internet.

server: HTTPS on loopback. partner: the services on it (coupons here; schedule, products, forecast beside it, in
the shapes of real public services). profiles: made-up profiles.
`python -m deployments.sandbox` serves the partner until it is stopped.
"""

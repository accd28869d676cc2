"""The guard: network, certificates, one HTTPS exchange, credentials, accounts."""

"""Campaign activities as Prefect tasks, in the palette's groups; `flows` compose them.

targeting: query, deduplication, enrichment. data_management: external_api. content: personalization.
channels: outbox. execution: report. An activity takes tables and gives tables; the modules of this folder
itself are the floor they all stand on: errors, settings, tables, columns, results, locks, send, privacy, run_log;
and for External API endpoint, inbound, answer, pagination, exchange, network, credentials, accounts.
"""

from tasks.run_log import install_filters

# Here, because a worker imports `tasks.*` and nothing else of ours before it runs a flow.
install_filters()

"""Campaign activities as Prefect tasks, in the palette's groups; `flows` compose them.

targeting: query, incremental_query, union, intersection, exclusion, segmentation, deduplication, enrichment,
read_audience, save_audience. data_management: external_api, transfer_file, load_file, extract_file, reconciliation,
update_data, subscription_services. content: personalization. channels: outbox. execution: test, wait,
external_signal, execution_options, report. An activity takes tables and gives tables; the modules of this folder
itself (errors, settings, tables, results, partitions, engine, network, endpoint, conditions, database, ...) and the
packages `answer`, `sources` and `remote` are the floor they all stand on.
"""

from tasks.runs.log import install_filters

# Here, because a worker imports `tasks.*` and nothing else of ours before it runs a flow.
install_filters()

"""What Alembic runs: the migrations, on the connection that `storage.migrate` opened."""

from alembic import context

from tasks.delivery.journal.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="journal_version",
)
with context.begin_transaction():
    context.run_migrations()

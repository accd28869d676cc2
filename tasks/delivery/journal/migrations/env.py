"""What Alembic runs: the migrations, on the connection that `storage.migrate` opened."""

from alembic import context

from tasks.delivery.journal.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()

"""A message: letter, Parquet, folder of a send, unsubscribe links."""

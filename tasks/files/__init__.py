"""The storage folder, Parquet, stored audiences, places to transfer from and to."""

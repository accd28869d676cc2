"""What activities do with tables: transitions, conditions, relations, populations, columns."""

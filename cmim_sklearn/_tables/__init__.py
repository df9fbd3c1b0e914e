"""Tables: reading, schema, encoding, writing, for every dataframe library."""

"""The data types: which fields make a record of each kind, and what text and label it holds."""
